"""A node's shelf for tests: one model, and answers at once."""

from collections.abc import Callable
from pathlib import Path

from safetensors.numpy import load_file

from primep2p.core.references import RunRef
from primep2p.model.errors import Unavailable
from primep2p.model.views.events import AnyEvent, ModelNotPulled, ModelPulled
from primep2p.model.views.models import ModelDetail, ModelGone, ModelPath, ModelSummary, Prediction, VersionView

RUN = "ab" * 32
PEER, OTHER = "12D3KooW" + "A" * 44, "12D3KooW" + "B" * 44

MODEL = ModelDetail(
    owner=PEER,
    name="digits",
    own=True,
    sequence=7,
    announced=True,
    catalog="bafkrei",
    latest="12",
    versions=[
        VersionView(
            version="12",
            latest=True,
            here=True,
            params="bafkrei",
            size_bytes=1234,
            schema="ef" * 32,
            trainer="mlp",
            trainer_config={"hidden": [64]},
            metrics={"loss": 0.25},
            published_at=1.5,
            run=RUN,
            round=12,
            header="cd" * 32,
            certified="certified",
        )
    ],
)


class FakeShelf:
    """One model, whose file is `file`, where there is one; answers are in `answers`."""

    def __init__(self) -> None:
        self.asked: list[object] = []
        self.file: str | None = "/x.safetensors"
        self.answers = ""
        self.tell: Callable[[AnyEvent], object] = lambda event: None
        self.detail = MODEL
        self.listed = [
            ModelSummary(owner=PEER, name="digits", own=True, latest="12", versions=1, here=["12"]),
            ModelSummary(owner=OTHER, name="letters", own=False, latest="", versions=1, here=[]),
        ]

    async def publish_run(self, ref: RunRef, name: str, label: str) -> ModelDetail:
        self.asked.append((ref, name, label))
        return self.detail

    async def publish_file(self, path: Path, name: str, label: str, **about: object) -> ModelDetail:
        self.asked.append((path, name, label, about))
        return self.detail

    async def models(self, owner: str) -> list[ModelSummary]:
        return [] if owner else self.listed

    async def show(self, text: str) -> ModelDetail:
        return self.detail

    async def pull(self, text: str) -> ModelPath:
        try:
            found = await self.path(text)
        except Unavailable as error:
            self.tell(ModelNotPulled(asked=text, reason=error.sentence))
            raise
        self.tell(ModelPulled(asked=text, model=found.model, params=found.cid, bytes=7, seconds=0.5))
        return found

    async def path(self, text: str) -> ModelPath:
        self.asked.append(text)
        if self.file is None:
            raise Unavailable("the params are not here yet")
        model = text if "@" in text else f"{text}@3"
        return ModelPath(model=model, run=RUN, round=3, cid="bafkrei", path=self.file, trainer="mlp")

    async def roll_back(self, text: str, label: str) -> ModelDetail:
        self.asked.append((text, label))
        return self.detail

    async def predict(self, text: str, inputs: Path) -> Prediction:
        self.asked.append((text, load_file(inputs)))
        return Prediction(model=text, trainer="mlp", path=self.answers, seconds=0.5)

    async def remove(self, text: str) -> ModelGone:
        return ModelGone(owner=PEER, name=text, versions=["12"], freed_bytes=0)
