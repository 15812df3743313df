"""Bases for trainers in a framework: numpy, MLX, PyTorch, scikit-learn."""
