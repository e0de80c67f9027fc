"""Trainers: plain torch programs, one recipe a stage, resumable, on a CPU or a GPU."""
