"""Training, evaluation and export of networks that the filter loads.

In a checkout this package is `training`; a wheel installs it as `vs_iconvsr.training`, hence the relative imports.
"""

# What a user types to run it.
PROGRAM = "python -m training" if __name__ == "training" else "iconvsr train"
