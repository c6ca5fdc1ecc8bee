"""What the rules of the workflow ask of a plan: inputs, outputs, names. Imports no torch."""
