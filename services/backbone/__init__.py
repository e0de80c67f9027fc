"""The backbone: the language model that everything meets in."""
