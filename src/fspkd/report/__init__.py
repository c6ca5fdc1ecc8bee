"""What is shown of finished runs. A kind of figure or time comparison is a module with its name, with a function `write`."""
