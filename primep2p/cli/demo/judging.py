"""What a model is worth: its accuracy on digits that no node has seen, and what each node reaches alone."""

from pathlib import Path

from safetensors.numpy import load_file

from primep2p.plugin.api import Context, Params
from primep2p.run_config import RunConfig
from primep2p.trainers.dense import MultilayerPerceptron

__all__ = ["Judge"]


class Judge:
    """Runs the trainer's own code in this process, which belongs to the user and signs nothing."""

    def __init__(self, config: RunConfig, held_out: Path, scratch: Path) -> None:
        self._config = config
        self._held_out = held_out
        self._scratch = scratch
        self._trainer = MultilayerPerceptron()

    def accuracy(self, params: Path) -> float:
        """Of the params in a file, on the held-out examples, from 0 to 1."""
        return self._accuracy(load_file(params))

    def alone(self, data: Path, first: Path, rounds: int) -> float:
        """What a node reaches that trains on nothing but `data`: from the same first params, for as many rounds."""
        trainer = MultilayerPerceptron()
        params: Params = load_file(first)
        for round in range(1, rounds + 1):
            trained = trainer.train(params, self._context(round, data)).params
            assert trained is not None
            params = trained
        return self._accuracy(params)

    def _accuracy(self, params: Params) -> float:
        return self._trainer.evaluate(params, self._context(0, self._held_out))["accuracy"]

    def _context(self, round: int, data: Path) -> Context:
        return Context(round, seed=round, config=self._config.trainer_config, data=data, scratch=self._scratch)
