"""What the kernels are computed with: numpy, compiled loops, MLX."""
