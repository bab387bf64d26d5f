"""Training, evaluation and export of networks that the filter loads."""
