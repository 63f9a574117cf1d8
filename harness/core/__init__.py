"""What every room stands on: errors, options, chunks and their keys, spans, the recurrence, text, the machine, time limits.

Nothing here imports another room.
"""
