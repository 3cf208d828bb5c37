"""Ways to fit a program, one a file: only init, step and result."""
