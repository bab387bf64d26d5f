"""The commands of `iconvsr`, one file each."""
