"""Ways into the program for damaged files: each takes samples, damages one by its dice, and runs a command on it."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

from ffmpeg_filter.job.queue.state import STATE
from tests.end_to_end.hostile.confined import Ended, run_command
from tests.end_to_end.hostile.mutations import MUTATIONS, lie
from tests.end_to_end.hostile.samples import IMAGES, PART_FRAMES, SCENE_LISTS, SOURCE, Samples

PIPE_OPTIONS = ("--device", "cpu", "--threads", "1", "--segment", "4", "--context", "1")
OPTIONS = (*PIPE_OPTIONS, "--preset", "ultrafast", "--progress", "plain", "--part-frames", str(PART_FRAMES))


@dataclass(frozen=True)
class Attempt:
    """A command on damaged files, and how it ended. output: what it may have made. description: for a person."""

    description: str
    ended: Ended
    output: Path | None = None


@dataclass(frozen=True)
class Attack:
    """What a way in may use. folder: its own, empty. finished: the output folder of a finished queue of `shelf`."""

    samples: Samples
    model: Path
    shelf: Path
    finished: Path
    folder: Path
    dice: Random

    def run(self, *words: str | Path, stdin: Path | None = None, stdout: Path | None = None) -> Ended:
        return run_command([str(word) for word in words], self.folder, stdin=stdin, stdout=stdout)

    def damage(self, files: Mapping[str, bytes], name: str | None = None) -> tuple[str, str]:
        """Writes one of the files, damaged, into the folder: its name, and how it was damaged."""
        name = name or self.dice.choice(sorted(files))
        how = self.dice.choice(sorted(MUTATIONS))
        other = files[self.dice.choice(sorted(files))]
        content = MUTATIONS[how](name.rpartition(".")[2])(files[name], other, self.dice)
        (self.folder / name).write_bytes(content)
        return name, how


def probe_video(attack: Attack) -> Attempt:
    name, how = attack.damage(attack.samples.videos)
    return Attempt(f"probe {name}, {how}", attack.run("probe", name))


def upscale_video(attack: Attack) -> Attempt:
    name, how = attack.damage(attack.samples.videos)
    output = attack.folder / attack.dice.choice(("out.mkv", "out.mp4"))
    ended = attack.run("upscale", name, output, "--model", attack.model, *OPTIONS)
    return Attempt(f"upscale {name}, {how}", ended, output)


def upscale_images(attack: Attack) -> Attempt:
    """One of three images is damaged."""
    kind = attack.dice.choice(sorted(IMAGES))
    intact = {f"in_{n}.{kind}": attack.samples.images[kind] for n in range(3)}
    for name, content in intact.items():
        (attack.folder / name).write_bytes(content)
    name, how = attack.damage(intact)
    output = attack.folder / "out.mkv"
    ended = attack.run("upscale", f"in_%d.{kind}", output, "--rate", "25", "--model", attack.model, *OPTIONS)
    return Attempt(f"upscale images {name}, {how}", ended, output)


def pipe(attack: Attack) -> Attempt:
    name, how = attack.damage(attack.samples.piped)
    words = ("pipe", "--model", attack.model, *PIPE_OPTIONS)
    ended = attack.run(*words, stdin=attack.folder / name, stdout=attack.folder / "stdout.nut")
    return Attempt(f"pipe {name}, {how}", ended)


def read_weights(attack: Attack) -> Attempt:
    name, how = attack.damage(attack.samples.weights)
    if attack.dice.random() < 0.5:
        return Attempt(f"models info {name}, {how}", attack.run("models", "info", f"./{name}"))
    (attack.folder / SOURCE).write_bytes(attack.samples.videos[SOURCE])
    output = attack.folder / "out.mkv"
    ended = attack.run("upscale", SOURCE, output, "--model", f"./{name}", *OPTIONS)
    return Attempt(f"upscale with the model {name}, {how}", ended, output)


def resume(attack: Attack) -> Attempt:
    """A file in the work directory of an interrupted job is damaged; now and then the job is finished already."""
    output = attack.folder / "out.mkv"
    work = attack.folder / "out.mkv.iconvsr"
    work.mkdir()
    note = json.dumps({"frames": 12, "size_bytes": 3, "kept": ["a"], "left": [], "warnings": []}).encode()
    files = {**attack.samples.work, **({"finished.json": note} if attack.dice.random() < 0.2 else {})}
    for name, content in files.items():
        (work / name).write_bytes(content)
    if "finished.json" in files:
        output.write_bytes(b"whole"[:3])
    (attack.folder / SOURCE).write_bytes(attack.samples.videos[SOURCE])
    name = "finished.json" if "finished.json" in files else attack.dice.choice(sorted(files))
    how = attack.dice.choice(sorted(MUTATIONS))
    content = files[name] and MUTATIONS[how](name.rpartition(".")[2])(files[name], files["manifest.json"], attack.dice)
    (work / name).write_bytes(content)
    ended = attack.run("upscale", SOURCE, output, "--model", attack.model, *OPTIONS)
    return Attempt(f"resume with {name}, {how}", ended, None if "finished.json" in files else output)


def go_on_with_queue(attack: Attack) -> Attempt:
    """The state file of a queue is damaged."""
    output_dir = attack.folder / "out"
    shutil.copytree(attack.finished, output_dir)
    intact = (output_dir / STATE).read_bytes()
    how, change = attack.dice.choice(
        (("lie", lie("json")), ("lie", lie("json")), *((h, m("json")) for h, m in MUTATIONS.items()))
    )
    (output_dir / STATE).write_bytes(change(intact, intact, attack.dice))
    ended = attack.run("upscale", attack.shelf, "--output-dir", output_dir, "--model", attack.model, *OPTIONS)
    return Attempt(f"queue, {how}: {(output_dir / STATE).read_bytes()[:400]!r}", ended)


def read_scene_list(attack: Attack) -> Attempt:
    """A list of cuts, as one of three programs writes it, is damaged."""
    (attack.folder / SOURCE).write_bytes(attack.samples.videos[SOURCE])
    name, how = attack.damage(SCENE_LISTS)
    output = attack.folder / "out.mkv"
    ended = attack.run("upscale", SOURCE, output, "--scenes", name, "--model", attack.model, *OPTIONS)
    return Attempt(f"scenes {name}, {how}", ended, output)


WAYS: tuple[Callable[[Attack], Attempt], ...] = (
    upscale_video,
    pipe,
    read_weights,
    resume,
    upscale_video,
    go_on_with_queue,
    probe_video,
    upscale_images,
    read_scene_list,
)
