"""A plan: a network with one hidden layer, and a step of gradient descent with momentum.

primep2p plan export examples/plan.py:Digits -o digits.plan
"""

import mlx.core as mx
from mlx import nn

RELU_GAIN = 2**0.5


def logits(params, x):
    return nn.relu(x @ params["hidden"] + params["hidden_bias"]) @ params["out"] + params["out_bias"]


def loss(params, x, y):
    return nn.losses.cross_entropy(logits(params, x), y, reduction="mean")


class Digits:
    batch = {"x": ("float32", 64), "y": ("int32",)}
    settings = {"learning_rate": 0.1, "momentum": 0.9}

    @staticmethod
    def init(key):
        first, second = mx.random.split(key)
        return {
            "hidden": mx.random.normal((64, 64), key=first) * (RELU_GAIN / 64**0.5),
            "hidden_bias": mx.zeros(64),
            "out": mx.random.normal((64, 10), key=second) * (RELU_GAIN / 64**0.5),
            "out_bias": mx.zeros(10),
        }

    @staticmethod
    def state(params):
        return {name: mx.zeros_like(array) for name, array in params.items()}

    @staticmethod
    def train_step(params, velocity, x, y, learning_rate, momentum):
        value, gradient = mx.value_and_grad(loss)(params, x, y)
        velocity = {name: momentum * velocity[name] + gradient[name] for name in params}
        params = {name: params[name] - learning_rate * velocity[name] for name in params}
        return params, velocity, value

    @staticmethod
    def evaluate(params, x, y):
        right = mx.argmax(logits(params, x), axis=1) == y
        return {"loss": loss(params, x, y), "accuracy": mx.mean(right.astype(mx.float32))}

    @staticmethod
    def predict(params, x):
        return mx.softmax(logits(params, x), axis=1)
