"""Ctrl-C while asking: what was sent arrives, nothing more is sent, and a second one stops at once."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import pytest
from asking_runs import Answers, questions, run
from loopback_server import (
    HANG,
    Answer,
    LoopbackServer,
    Seen,
    chat,
    error,
)


def press_ctrl_c() -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


@pytest.mark.skipif(os.name == "nt", reason="a process cannot send itself Ctrl-C there")
def test_ctrl_c_lets_arrive_what_was_sent_and_sends_nothing_more() -> None:
    answers, said = Answers(), list[str]()

    def on_answer(index: int, answer: Any) -> None:
        answers(index, answer)
        if len(answers) == 5:
            press_ctrl_c()

    with LoopbackServer(chat(), latency=0.3) as server, pytest.raises(KeyboardInterrupt):
        run(server, questions(100), on_answer=on_answer, concurrency=4, on_wait=said.append)

    assert len(answers.replies) == len(answers) == len(server.seen) == 9
    assert said == [
        "Ctrl-C: waiting for 4 replies that are on their way, they are paid for; Ctrl-C again stops at once"
    ]


@pytest.mark.skipif(os.name == "nt", reason="a process cannot send itself Ctrl-C there")
def test_ctrl_c_does_not_wait_for_what_is_to_be_asked_again() -> None:
    """Between two tries nothing is on its way, however long the server wants them to wait."""
    answers = Answers()

    def answer(seen: Seen) -> Answer:
        if seen.body["messages"][0]["content"] != "1":
            return chat()
        threading.Timer(0.2, press_ctrl_c).start()
        return error(503, "later", **{"retry-after": "50"})

    with LoopbackServer(answer) as server, pytest.raises(KeyboardInterrupt):
        run(server, questions(2), on_answer=answers, concurrency=4)

    assert (len(server.seen), list(answers)) == (2, [0])


@pytest.mark.skipif(os.name == "nt", reason="a process cannot send itself Ctrl-C there")
def test_a_second_ctrl_c_stops_at_once() -> None:
    answers = Answers()

    def on_answer(index: int, answer: Any) -> None:
        answers(index, answer)
        if len(answers) == 5:
            press_ctrl_c()

    with (
        LoopbackServer(lambda seen: chat() if seen.number < 5 else HANG) as server,
        pytest.raises(KeyboardInterrupt),
    ):
        run(
            server,
            questions(100),
            on_answer=on_answer,
            concurrency=4,
            timeout=600,
            on_wait=lambda _: threading.Timer(0.2, press_ctrl_c).start(),
        )

    assert len(answers.replies) == len(answers) == 5
    asking = [thread for thread in threading.enumerate() if thread.name == "promptfit-asking"]
    for thread in asking:
        thread.join(5)
    assert not any(thread.is_alive() for thread in asking)
