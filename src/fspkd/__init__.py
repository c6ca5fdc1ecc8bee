"""Knowledge distillation by FSP matrices and by hints: the library behind the workflow."""
