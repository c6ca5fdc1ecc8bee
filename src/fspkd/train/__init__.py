"""Around the engine: locks, signals, resuming, recording and finishing. None of it changes what is computed."""
