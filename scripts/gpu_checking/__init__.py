"""What scripts/gpu_check is made of: the checks of each stage, and the file that holds what they found."""
