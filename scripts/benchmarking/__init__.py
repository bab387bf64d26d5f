"""What scripts/benchmark is made of; gpu_check and levers use it too."""
