"""The upscaler between a decoder and an encoder: a command, a pipe and a node for ffmpeg-python graphs."""
