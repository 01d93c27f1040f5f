"""Preparing data sets: what people have, folders and archives of images, to what `data` reads."""
