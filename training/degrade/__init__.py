"""From ground truth to lr frames: the degradations, and how to estimate those of given footage."""
