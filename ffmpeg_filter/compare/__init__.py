"""The comparison page: several models side by side on the hard moments of a video."""
