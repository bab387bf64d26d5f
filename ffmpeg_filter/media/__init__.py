"""Video files and images: probing, decoding, encoding, muxing, and the ffmpeg executable."""
