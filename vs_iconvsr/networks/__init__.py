"""The mathematics: tensors in, tensors out. Imports torch only."""
