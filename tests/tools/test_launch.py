import json

import pytest

from jtln_tf.config import InputError
from jtln_tf.tools.launch import worker_environments
from tests.tools.test_programs import assert_refused, run


def test_each_worker_knows_all_of_them_and_gets_its_share_of_the_gpus(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,4,5")
    first, second = worker_environments(2)
    tasks = [json.loads(one["TF_CONFIG"]) for one in (first, second)]
    assert tasks[0]["cluster"] == tasks[1]["cluster"] and len(set(tasks[0]["cluster"]["worker"])) == 2
    assert [task["task"] for task in tasks] == [{"type": "worker", "index": index} for index in range(2)]
    assert [one["CUDA_VISIBLE_DEVICES"] for one in (first, second)] == ["0,1", "4,5"]
    with pytest.raises(InputError, match="CUDA_VISIBLE_DEVICES must name the same number of GPUs"):
        worker_environments(3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--", "evaluate"], "`PROGRAM` must be train. Received: 'evaluate'"),
        (["--workers=2", "--", "train", "--strategy=mirrored"], "`strategy` must not be given"),
        ([], "`PROGRAM` must be given"),
    ],
)
def test_what_cannot_be_launched_is_refused(repository, arguments, words):
    assert_refused(run(repository, "launch", *arguments), words)


@pytest.mark.slow
def test_input_that_all_workers_refuse_is_told_once(repository, tmp_path):
    flags = ["--source=folder:none", "--target=folder:none", f"--workdir={tmp_path / 'run'}"]
    result = run(repository, "launch", "--workers=2", "--", "train", *flags)
    assert_refused(result, "`folder:` must name an existing folder")
    assert not (tmp_path / "run").exists()
