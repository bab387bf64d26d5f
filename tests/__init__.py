"""The tests. A package with this file, so that no package of that name among the installed ones is found instead."""
