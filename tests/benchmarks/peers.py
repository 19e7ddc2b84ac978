"""Other optimizers on the table's tasks: GEPA and two of DSPy, each as it comes, over this project's recordings.

The packages ``gepa`` and ``dspy`` are the extra ``table``. Both ask through ``Asker``: every reply is recorded, and the
same request is answered from the recording, so a run that is started again asks nothing twice.
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any, Literal

from pytest_promptfit.cassettes.cassette import Asked
from pytest_promptfit.cassettes.recorder import Recorder
from pytest_promptfit.chat.request import ChatRequest, Turn
from pytest_promptfit.prompts.model import ModelSpec
from pytest_promptfit.prompts.read import parse_prompt_file
from pytest_promptfit.providers.asking import ask_and_record
from pytest_promptfit.providers.replies import parsed_body
from pytest_promptfit.providers.wire import Wire, provider_of
from tests.benchmarks import table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_promptfit.chat.reply import ChatReply
    from pytest_promptfit.prompts.samples import Sample
    from tests.benchmarks.table import Cell, Place

    Messages = Sequence[Mapping[str, Any]]


class Asker:
    """Asks one model: what is recorded is not asked again."""

    def __init__(self, spec: dict[str, Any], recorder: Recorder, place: Place) -> None:
        self.provider = provider_of(ModelSpec.model_validate(spec), place.folder)
        self.calls: set[str] = set()
        """Keys of what was asked, recorded or not."""
        self._recorder = recorder
        self._concurrency = place.concurrency
        self._repeats: Counter[str] = Counter()

    def __deepcopy__(self, _: object) -> Asker:
        return self  # DSPy copies its models: they go on with the same recording

    def chat(self, messages: Messages, params: Mapping[str, Any]) -> ChatReply:
        """Return the reply to chat messages; raise RuntimeError where there is none.

        What is asked again at a temperature above 0 gets another reply.
        """
        system = "\n".join(str(said["content"]) for said in messages if said["role"] == "system")
        turns = tuple(Turn(said["role"], str(said["content"])) for said in messages if said["role"] != "system")
        payload = self.provider.payload(ChatRequest(self.provider.spec.name, system, turns, params=dict(params)))
        asked = Asked.of(self.provider.url, payload)
        if params.get("temperature"):
            self._repeats[asked.key] += 1
            asked = Asked.of(self.provider.url, payload, repeat=self._repeats[asked.key] - 1)
        (body,) = self.bodies([asked])
        if body is None:
            raise RuntimeError(f"no reply of {self.provider.spec}")
        return self.provider.reply(parsed_body(body), "")

    def bodies(self, asked: Sequence[Asked]) -> list[str | None]:
        """Return the replies' bodies, ``None`` for a request that the server refuses; raise where it is not there."""
        find = self._recorder.cassette.find
        missing = {one.key: one for one in asked if find(one.key) is None}
        self.calls |= {one.key for one in asked}
        if missing:
            ended = ask_and_record(
                list(missing.values()), self.provider, self._recorder, concurrency=self._concurrency, first_alone=False
            )
            for error in ended.errors.values():
                if getattr(error, "fatal", False):
                    raise error
        return [None if (found := find(one.key)) is None else found.body for one in asked]


@contextmanager
def asking(place: Place) -> Iterator[tuple[Asker, Asker]]:
    """Yield what asks the task model and the optimizer model while a cell is made."""
    with Recorder.open(place.folder / table.TUNED_FOLDER / "peer") as recorder:
        settings = place.settings
        yield Asker(settings.model, recorder, place), Asker(settings.optimizer, recorder, place)


def gepa(place: Place) -> Cell:
    """Let GEPA write the system prompt, with replies read as this project reads them."""
    import gepa as package

    start = place.settings.start.replace("{labels}", ", ".join(place.task.labels))
    path = table.write_prompt(place, start)
    with asking(place) as (task, optimizer):

        def reflect(prompt: str | Messages) -> str:
            said = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
            return optimizer.chat(said, table.OPTIMIZER_PARAMS).text

        found = package.optimize(
            seed_candidate={"system_prompt": start},
            trainset=list(place.task.train),
            valset=list(_dev(place)),
            adapter=_GepaAdapter(path, place, task),
            reflection_lm=reflect,
            max_metric_calls=place.settings.calls,
            stop_callbacks=lambda _: len(optimizer.calls) >= place.settings.optimizer_calls,
            logger=_Silent(),
            seed=place.seed,
        )
    best = found.best_candidate["system_prompt"]
    path = table.write_prompt(place, best)
    scores = found.val_aggregate_scores
    note = f"{len(scores)} candidates, dev {scores[0]:.2f} → {max(scores):.2f}"
    return table.judged(place, path, tuning=table.spent(place), note=note)


class _GepaAdapter:
    """What GEPA asks of a program: run a candidate, and say what it got wrong, in the words of GEPA's own adapter."""

    propose_new_texts = None

    def __init__(self, path: Any, place: Place, task: Asker) -> None:
        self._parsed = parse_prompt_file(path)
        self._labels = place.task.labels
        self._task = task

    def evaluate(self, batch: list[Sample], candidate: dict[str, str], capture_traces: bool = False) -> Any:
        """Return outputs and scores of a candidate, 1 for each right label."""
        from gepa.core.adapter import EvaluationBatch

        config = self._parsed.config
        prompt = config.prompt.model_copy(update=candidate)
        wire = Wire(config, self._labels, self._parsed.path.parent, prompt=prompt)
        bodies = self._task.bodies([wire.asked(sample) for sample in batch])
        read = [
            (None, None) if body is None else wire.read(body, s.text) for body, s in zip(bodies, batch, strict=True)
        ]
        outputs = [reply.text if reply else "" for reply, _ in read]
        pairs = zip(read, batch, strict=True)
        scores = [float(decided is not None and decided.label == sample.label) for (_, decided), sample in pairs]
        traces = list(zip(batch, outputs, scores, strict=True)) if capture_traces else None
        return EvaluationBatch(outputs=outputs, scores=scores, trajectories=traces)

    def make_reflective_dataset(self, _: dict[str, str], evaluated: Any, components: list[str]) -> dict[str, Any]:
        """Return what the optimizer is shown of each sample."""
        shown = [
            {
                "Inputs": sample.text,
                "Generated Outputs": output,
                "Feedback": "The generated response is correct."
                if score
                else f"The generated response is incorrect. The correct answer is '{sample.label}'. "
                "Ensure that the correct answer is included in the response exactly as it is.",
            }
            for sample, output, score in evaluated.trajectories
        ]
        return dict.fromkeys(components, shown)


@contextmanager
def _silent(place: Place) -> Iterator[None]:
    """Keep what DSPy prints, its bars too, in a file of the cell's folder."""
    with (place.folder / "log.txt").open("w", encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
        yield


class _Silent:
    def log(self, message: str) -> None:
        """Say nothing: the recordings tell what was done."""


RANDOM_SETS = 4
MIPRO = {"num_candidates": 6, "minibatch": 35, "full_every": 5}
"""What MIPROv2 calls light."""


def _dev(place: Place) -> Sequence[Sample]:
    """Return an eighth as many dev rows as there are calls: seven candidates can be asked about all of them."""
    return place.task.dev[: max(1, place.settings.calls // 8)]


def bfrs(place: Place) -> Cell:
    """Let DSPy's BootstrapFewShotWithRandomSearch choose examples: three sets of its own and four random ones."""
    from dspy.teleprompt import BootstrapFewShotWithRandomSearch

    def compiled(program: Any, train: list[Any], dev: list[Any], _: Any) -> Any:
        search = BootstrapFewShotWithRandomSearch(_is_right, num_candidate_programs=RANDOM_SETS, num_threads=1)
        return search.compile(program, trainset=train, valset=dev)

    return _dspy(place, compiled)


def mipro(place: Place) -> Cell:
    """Let DSPy's MIPROv2 write instructions and choose examples: its light setting, with what trials calls allow."""
    from dspy.teleprompt import MIPROv2

    size, every = min(MIPRO["minibatch"], len(_dev(place))), MIPRO["full_every"]
    # Each trial asks a minibatch, each fifth one all of dev too, as the first prompt does.
    left = place.settings.calls * 7 // 8 - len(_dev(place))
    trials = max(1, left * every // (size * every + len(_dev(place))))

    def compiled(program: Any, train: list[Any], dev: list[Any], optimizer: Any) -> Any:
        search = MIPROv2(
            _is_right, prompt_model=optimizer, auto=None, num_candidates=MIPRO["num_candidates"], num_threads=1
        )
        return search.compile(
            program,
            trainset=train,
            valset=dev,
            num_trials=trials,
            minibatch_size=size,
            minibatch_full_eval_steps=every,
            seed=place.seed,
        )

    return _dspy(place, compiled)


def _is_right(example: Any, prediction: Any, _trace: object = None) -> bool:
    return bool(example.label == prediction.label)


def _dspy(place: Place, compiled: Any) -> Cell:
    import dspy

    task = place.task
    signature = dspy.Signature(
        {
            "text": (str, dspy.InputField()),
            "label": (Literal[task.labels], dspy.OutputField()),  # type: ignore[valid-type]
        },
        place.settings.start.replace("{labels}", ", ".join(task.labels)),
    )
    train, dev = (
        [dspy.Example(text=sample.text, label=sample.label).with_inputs("text") for sample in some]
        for some in (task.train, _dev(place))
    )
    # As it comes: what cannot be read in its first form is asked for once more as JSON, which is one more call.
    adapter = dspy.ChatAdapter()
    with asking(place) as (asker, optimizer), _silent(place):
        model = _dspy_model(asker, table.PARAMS)
        with dspy.context(lm=model, adapter=adapter, max_errors=10**6):
            program = compiled(dspy.Predict(signature), train, dev, _dspy_model(optimizer, table.OPTIMIZER_PARAMS))
    program.save(place.folder / "program.json")
    with Recorder.open(place.folder / "test") as recorder:
        asker = Asker(place.settings.model, recorder, place)
        with dspy.context(lm=_dspy_model(asker, table.PARAMS), adapter=adapter):
            said = [_says(program, sample.text) for sample in task.test]
    right = [int(label == sample.label) for label, sample in zip(said, task.test, strict=True)]
    tuning, test = table.spent(place), table.spent(place, "test")
    return table.Cell(task.name, place.row, place.seed, right, tuning, test, unread=said.count(None))


def _says(program: Any, text: str) -> str | None:
    from dspy.utils.exceptions import AdapterParseError

    try:
        return str(program(text=text).label)
    except (AdapterParseError, RuntimeError):
        return None


def _dspy_model(asker: Asker, params: Mapping[str, Any]) -> Any:
    import dspy
    from openai.types.chat import ChatCompletion

    class Recorded(dspy.BaseLM):  # type: ignore[misc]
        """A model for DSPy that asks through ``asker``."""

        def __init__(self) -> None:
            super().__init__(model=str(asker.provider.spec), cache=False, **params)

        def forward(self, prompt: str | None = None, messages: Messages | None = None, **given: Any) -> Any:
            wanted = {name: value for name, value in {**self.kwargs, **given}.items() if name in params}
            said = messages or [{"role": "user", "content": prompt}]
            reply = asker.chat(said, {**wanted, "temperature": wanted.get("temperature") or 0})
            usage = {"prompt_tokens": reply.input_tokens, "completion_tokens": reply.output_tokens}
            message = {"role": "assistant", "content": reply.text}
            return ChatCompletion.model_validate(
                {
                    "id": "recorded",
                    "created": 0,
                    "object": "chat.completion",
                    "model": self.model,
                    "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
                    "usage": {**usage, "total_tokens": sum(usage.values())},
                }
            )

    return Recorded()
