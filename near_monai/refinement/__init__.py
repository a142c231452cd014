"""The main job: an array, a file or a folder of noisy label maps in, clean ones out."""
