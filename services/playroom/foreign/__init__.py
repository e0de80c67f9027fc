"""Media of the playroom made by other programs: ImageMagick draws, sox plays, FFmpeg encodes.

Whether a model knows the world, or only how this repository draws it, shows here. Needed to measure, never to serve.
"""
