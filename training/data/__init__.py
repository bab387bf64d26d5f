"""Sequences to train on: prepared from videos, read from data sets, or synthesised."""
