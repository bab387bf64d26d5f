"""The error messages in groups: what stands before their first colon, or where they are raised; cause and remedy."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Group:
    """Messages by their subject, what stands before the first colon, or from files whose paths begin so.

    note: cause and remedy, in Markdown.
    """

    title: str
    note: str
    subjects: tuple[str, ...] = ()
    within: tuple[str, ...] = ()

    def takes(self, path: str, subject: str) -> bool:
        return subject in self.subjects or path.startswith(self.within)


_JOURNAL = ("ffmpeg_filter/job/journal.py", "ffmpeg_filter/job/execute.py", "ffmpeg_filter/job/pipeline.py")
_MUXING = ("ffmpeg_filter/media/join.py", "ffmpeg_filter/media/mux.py")
_PROGRAMS = ("ffmpeg_filter/media/ffmpeg.py", "ffmpeg_filter/media/listing.py")
_CLUSTER = ("ffmpeg_filter/job/cluster",)
_QUEUE = ("ffmpeg_filter/job/queue/", "ffmpeg_filter/serve/")
_WEIGHTS = ("vs_iconvsr/weights/",)
_NODE = ("ffmpeg_filter/node.py",)
_DATA = ("training/data/",)
_RUNS = ("training/loop/", "training/folders.py")
_FRAMES = ("training/degrade/", "training/metrics.py")

GROUPS = (
    Group(
        "Training: data",
        "What `prepare` and `synthesise` make, and the footage and frames that they read. A damaged sequence is "
        "deleted and made again by the same command; a folder holds what one version of `prepare` made. The "
        "[training guide](../training/README.md) says which footage is of use.",
        within=_DATA,
    ),
    Group(
        "Training: recipes and runs",
        "A recipe (YAML) has a key that does not exist, a value out of its limits or values that exclude each "
        "other: the message names file, line and key. A run resumes with the recipe that it began with, and stops "
        "rather than go on from a damaged checkpoint.",
        within=_RUNS,
    ),
    Group(
        "Training: degradations",
        "A value of a recipe's `degradations` is out of its limits, or the footage given to `from_sample` has too "
        "little detail, or too few consecutive frames, to be measured.",
        within=_FRAMES,
    ),
    Group(
        "Training: commands, evaluation and export",
        "`export` never writes over a file that it did not make, nor weights that are worse than those the run "
        "began with; `evaluate` needs the frames that its protocol names.",
        within=("training/",),
    ),
    Group(
        "Models: names and downloads",
        "The name is unknown, the model is not installed (`iconvsr models download NAME`), or the download failed "
        "or was not the published file, which is then discarded. Without a network, copy the file to the folder "
        "that the message names.",
        ("model", "download", "mirror"),
        ("vs_iconvsr/weights/catalogue.py", "vs_iconvsr/weights/download.py"),
    ),
    Group(
        "Weight files",
        "The file is no weight file, is damaged or cut off, holds another network than its name says, or would run "
        "code when loaded (nothing of it was run: [security.md](security.md)). Download it again, or ask its author "
        "for the tensors alone. `iconvsr models info FILE` says what a file holds; `iconvsr models verify` examines "
        "all that are installed.",
        within=_WEIGHTS,
    ),
    Group(
        "A package is missing",
        "A part of the project needs Python packages that come with one of its extras. Type the line in the message.",
        within=("vs_iconvsr/extras.py",),
    ),
    Group(
        "Cluster",
        "A node of the Ray cluster cannot make parts as this machine would, does not see the same files, or could "
        "not be reached. Nodes that are left out are named with the reason; finished parts are kept, and the same "
        "command goes on ([command.md](command.md#several-machines)).",
        within=_CLUSTER,
    ),
    Group(
        "Queue: --output-dir, --watch, serve",
        "The output folder is used by another queue, its state file is of another version or damaged, or nothing in "
        "INPUT is a video. Outputs are kept in every case ([queue.md](queue.md), [serve.md](serve.md)).",
        within=_QUEUE,
    ),
    Group(
        "ffmpeg-python graphs",
        "The graph has no iconvsr node or several, an option that it does not know, or was run by ffmpeg-python "
        "itself ([command.md](command.md#between-two-ffmpeg-processes-and-in-ffmpeg-python)).",
        within=_NODE,
    ),
    Group(
        "Resuming a job",
        "The parts that an earlier run left behind were made from another source, with other options, or on a "
        "machine whose results may differ in the last bits; or a part is not complete. `--restart` discards them, "
        "`--allow-mixed` uses them; what each stop leaves on disk is in [job-states.md](job-states.md). With "
        "`--strict`, damaged frames of the source end the job; without it they are replaced and named at the end.",
        within=_JOURNAL,
    ),
    Group(
        "Muxing and checking the output",
        "Parts could not be joined, or the finished file does not hold what it should: it is never published then. "
        "Another `--ffmpeg` or `--restart` helps where parts differ; a difference that stays is a fault worth "
        "reporting.",
        within=_MUXING,
    ),
    Group(
        "ffmpeg",
        "No ffmpeg was found, it is too old (5.1 is the oldest), it is no ffmpeg, or it ended with an error, whose "
        "last lines follow. `iconvsr doctor` shows which one is used; `--ffmpeg PATH` and `ICONVSR_FFMPEG` choose "
        "another.",
        within=_PROGRAMS,
    ),
    Group(
        "Comparing with the source: --verify",
        "The comparison with the source needs a video in and out, with the source's own frames in YUV. The output "
        "itself is whole.",
        ("verify",),
    ),
    Group(
        "Lists of cuts: --scenes",
        "The list of cuts is for another video, is not in one of the three forms, or not in ascending order. Make "
        "it from this very video: `iconvsr scenes IN > cuts.txt` ([scenes.md](scenes.md)).",
        ("scenes",),
    ),
    Group(
        "Images: --rate, --peak, transfer",
        "Numbered images carry no frame rate, so `--rate` is needed; `--peak` is for EXR alone, which holds linear "
        "light, and EXR takes only transfer curves that can be undone.",
        ("rate", "rate, peak", "peak", "transfer"),
    ),
    Group(
        "Input",
        "The source cannot be read, has no video, is interlaced, transparent or encrypted, changes its size on the "
        "way, or has broken timestamps. The message ends with the command that makes a readable file of it where "
        "there is one ([formats.md](formats.md), [recipes.md](recipes.md)).",
        ("input", "pixel format", "deinterlace, ivtc", "ivtc", "start", "start, duration"),
    ),
    Group(
        "Output",
        "The name, the folder or the container of the output cannot be used, or a file is in the way; nothing is "
        "replaced without `--overwrite`. What a container cannot hold is named before the first frame; .mkv holds "
        "the most.",
        ("output", "script", "page", "disk full", "parts"),
    ),
    Group(
        "Encoder",
        "The encoder is not in this ffmpeg, does not work on this machine, cannot store this format or go into this "
        "container, or has no such setting. `--encoder auto` chooses one that fits.",
        ("encoder", "encoders", "bits", "crf", "preset", "ffmpeg options"),
    ),
    Group(
        "Target size",
        "Only one of `--size`, `--height` and `--scale` can be given, above 0, at most the largest side, and a "
        "multiple of the chroma subsampling; `--square-pixels` needs a size of the picture's own shape.",
        ("size", "square-pixels", "kernel"),
        ("ffmpeg_filter/media/target_size.py",),
    ),
    Group(
        "Pipe",
        "`iconvsr pipe` stands between two processes. It needs timestamps (NUT, Matroska, MPEG-TS or y4m), "
        "progressive frames, and segments of a fixed length.",
        ("pipe",),
    ),
    Group(
        "Memory",
        "The budget is too small even for the smallest tile, or memory ran out although every memory strategy was "
        "tried. Pass smaller tiles or segments, or a larger budget if the machine has it "
        "([speed.md](speed.md#memory)).",
        ("memory", "pinned host memory", "out of memory"),
    ),
    Group(
        "Device and precision",
        "The device is not there or PyTorch cannot use it, several devices differ so that their pixels would, or "
        "the device does not compute in that precision. `iconvsr doctor` lists what is there.",
        ("device", "precision"),
    ),
    Group(
        "Frames in VapourSynth",
        "The clip is interlaced, transparent, changes its format or size, or has a format that the filter does not "
        "take; or a frame property has a value that is not defined. The message names the call that fixes it "
        "([filter.md](filter.md)).",
        ("_Alpha", "_FieldBased", "clip", "format", "frame"),
        ("vs_iconvsr/colorspace/colorimetry.py", "vs_iconvsr/streaming/frames.py"),
    ),
    Group(
        "Matrix",
        "The frames are tagged with a matrix that cannot be undone frame by frame, or the name is unknown. Convert "
        "first, or override a wrong tag with `matrix=` or `--matrix` ([formats.md](formats.md)).",
        ("matrix",),
    ),
    Group(
        "Options out of their limits",
        "The value is not among those that [options.md](options.md) lists, or the option does not go with the others.",
        ("cleaning", "context", "dither", "halo", "part-frames", "sc_threshold", "segment", "tile"),
        ("vs_iconvsr/options.py", "ffmpeg_filter/commands/"),
    ),
    Group(
        "Faults of ours",
        "These guard what no option or file should bring about. Please report them, with the output of `iconvsr "
        "doctor` and, for the command, of `iconvsr --traceback …`.",
        within=("vs_iconvsr/", "ffmpeg_filter/"),
    ),
)
"""In the order of looking: a message belongs to the first group that takes it. The page is sorted by title."""
