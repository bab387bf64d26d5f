"""One upscaling job: options, preparation, execution in parts, the files it leaves, progress."""
