"""What the engine says of a machine: cards that lie idle and why, threads that somebody has set."""

from recommender.language import marked

SENTENCES: tuple[str, ...] = (
    marked(
        "There is an {maker} GPU, and the installed torch is built for the CPU only; install a build of torch for it to use it."
    ),
    marked("torch could not be asked for its {backend} devices ({why}), so none is used."),
    marked("CUDA_VISIBLE_DEVICES is {value}, so no GPU is used."),
    marked("CUDA_VISIBLE_DEVICES is {value}, which names no GPU of this machine."),
    marked("The NVIDIA driver {how}, so no GPU is used; see what `nvidia-smi` says, a restart often helps."),
    marked("did not answer within {seconds} seconds"),
    marked("cannot be asked"),
    marked("The NVIDIA driver answers with numbers that cannot be, so no GPU is used; restart the machine."),
    marked("The NVIDIA driver does not work ({why}), so no GPU is used."),
    marked(
        "The NVIDIA driver knows CUDA {has} and the installed torch needs {needed}, so no GPU is used; update the driver,"
        " or install torch for CUDA {other}."
    ),
    marked("The NVIDIA driver of this Jetson does not say what memory its GPU has, so no GPU is used."),
    marked(
        "There is an NVIDIA GPU whose driver cannot be reached from here, so it is not used: install it, or start the container"
        " with its GPUs (`docker run --gpus all`)."
    ),
    marked("NVIDIA GPU {number} does not answer ({why}), so it is not used."),
    marked("{name} is too old for the installed torch (CUDA {has}), so it is not used; torch for CUDA 12.6 can use it."),
    marked("{name} is too new for the installed torch (CUDA {has}), so it is not used; torch for CUDA 12.8 or later can use it."),
    marked("{name} is set to be cut into slices (MIG) and has none, so it is not used; make one, or turn MIG off."),
    marked(
        "There is an AMD GPU, and ROCm's {path} may not be used by this account (its groups render and video may),"
        " so no GPU is used."
    ),
    marked("There is an AMD GPU, and ROCm's {path} is missing, so no GPU is used."),
    marked("The AMD GPU here has less than 2 GB of memory of its own and shares the processor's, so it is not used."),
    marked("ROCR_VISIBLE_DEVICES or HIP_VISIBLE_DEVICES leaves no GPU to this process, so none is used."),
    marked("No folder for temporary files can be written here; set TMPDIR to one that can, and try again."),
    marked(
        "OMP_NUM_THREADS is {threads} in the environment and the cores to be used here are {cores}; without it a run on the"
        " processor takes a thread a core."
    ),
)
"""As the engine writes them, what varies in braces."""
