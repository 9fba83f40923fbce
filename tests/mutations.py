"""Faults that tests must find: each is put into a copy of the package, and its tests run.

    python tests/mutations.py [NAME ...]

Prints for each whether a test has failed, and ends with status 1 if one survived. Faults in the
compiled engine take a minute or two each, because it is built anew. pytest does not collect this.
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
ENGINE = "fastmlp/backends/cython_backend"


class Mutation(NamedTuple):
    """A text of a file, what takes its place, and what pytest is to run."""

    name: str
    file: str
    old: str
    new: str
    tests: str


MUTATIONS = [
    Mutation(
        "zeros are never skipped", "fastmlp/core/inputs.py",
        "return bool(np.count_nonzero(some) <= MAX_DENSITY * some.size)", "return False",
        "tests/test_backends.py -k TestDecisions",
    ),
    Mutation(
        "numbers are never recoded", f"{ENGINE}/_engine.pyx",
        "            self._recode()\n", "            pass\n",
        "tests/test_backends.py -k TestDecisions",
    ),
    Mutation(
        "few rows go the long way", f"{ENGINE}/engine.h",
        "#define FEW_ROWS 4\n", "#define FEW_ROWS 0\n",
        "tests/test_backends.py -k TestDecisions",
    ),
    Mutation(
        "one thread, always", f"{ENGINE}/training.h",
        "return n_threads < limit ? n_threads : (int)limit;", "return 1;",
        "tests/test_backends.py -k TestDecisions",
    ),
    Mutation(
        "the worst instruction set", f"{ENGINE}/_engine.pyx",
        'os.environ.get("FASTMLP_ISA") or names[0]',
        'os.environ.get("FASTMLP_ISA") or names[len(names) - 1]',
        "tests/test_backends.py -k TestDecisions",
    ),
    Mutation(
        "panels are as narrow as tiles", f"{ENGINE}/layout.h",
        "NAME(panel_units)(y->width, is_wide ? SKIPPING_VECTORS : TILE_VECTORS)",
        "NAME(panel_units)(y->width, is_wide ? TILE_VECTORS : TILE_VECTORS)",
        "tests/test_backends.py -k TestDecisions",
    ),
    Mutation(
        "zeros of ReLU are multiplied in the backward pass", f"{ENGINE}/samples.h",
        "skips_zeros = NAME(is_sparse)(end - begin, masks, y->n_masks, y->n_out);",
        "skips_zeros = 0;",
        "tests/test_backends.py -k TestDecisions",
    ),
    Mutation(
        "all images augmented at once", "fastmlp/training/passes.py",
        "_AUGMENTED_ROWS = 4096", "_AUGMENTED_ROWS = 1 << 40",
        "tests/test_regularization.py -k few_images",
    ),
    Mutation(
        "NumPy predicts all rows at once", "fastmlp/backends/numpy_backend.py",
        "_PREDICT_BYTES = 1 << 24", "_PREDICT_BYTES = 1 << 60",
        "tests/test_backends.py -k predicts_in_chunks",
    ),
    Mutation(
        "the best weights are not kept", "fastmlp/training/state.py",
        "    if progress.flat is not None:\n", "    if False:\n",
        "tests/test_drop_in.py -k early_stopping",
    ),
    Mutation(
        "dropout does not scale up", "fastmlp/core/random_bits.py",
        "np.asarray(1 / (1 - self.rates[layer]), dtype)", "np.asarray(1, dtype)",
        "tests/test_backends.py -k Dropout",
    ),
    Mutation(
        "a wrong slope of SiLU", "fastmlp/core/functions.py",
        "return share + a * (real(1) - share)", "return share + a * share",
        "tests/test_backends.py -k OfOurOwn",
    ),
    Mutation(
        "intercepts are penalised", "fastmlp/backends/numpy_backend.py",
        "np.sum(delta, axis=0) / total_weight",
        "(np.sum(delta, axis=0) + alpha * parameters.intercepts[layer]) / total_weight",
        "tests/test_backends.py -k TestAgainstOracle",
    ),
    Mutation(
        "weight decay follows the corrected rate", "fastmlp/core/optimizers.py",
        "settings[DECAY] = float(self.learning_rate_init)",
        "settings[DECAY] = float(self.learning_rate)",
        "tests/test_backends.py -k adamw",
    ),
    Mutation(
        "gradients are not clipped", "fastmlp/backends/numpy_backend.py",
        "    if norm > max_norm:\n", "    if False:\n",
        "tests/test_backends.py -k clipped",
    ),
    Mutation(
        "digests are not compared", "fastmlp/datasets/fetching.py",
        "    if found != dataset.sha256[name]:\n", "    if False:\n",
        "tests/test_datasets.py",
    ),
    Mutation(
        "class weights are ignored", "fastmlp/estimators/classifier.py",
        "        if self.class_weight is None:\n", "        if True:\n",
        "tests/test_regularization.py tests/test_drop_in.py -k class_weight",
    ),
    Mutation(
        "a clipped model becomes scikit-learn's", "fastmlp/estimators/conversion.py",
        "    if model.max_grad_norm is not None:\n", "    if False:\n",
        "tests/test_conversion.py -k clipped",
    ),
    Mutation(
        "IDX numbers keep the file's byte order", "fastmlp/idx/format.py",
        "part[...] = payload", "part[...] = payload.view(payload.dtype.newbyteorder())",
        "tests/test_idx.py",
    ),
    Mutation(
        "files from strangers are trusted", "fastmlp/persistence/pipelines.py",
        '    "fastmlp.persistence.StoredModel",\n',
        '    "fastmlp.persistence.StoredModel",\n    "os.system",\n',
        "tests/test_saving.py --full -k what_is_trusted_by_fastmlp_is_harmless",
    ),
    Mutation(
        "one network instead of their mean", "fastmlp/estimators/ensemble.py",
        "for more in outputs[1:]:", "for more in outputs[:0]:",
        "tests/test_ensemble.py -k same_bits",
    ),
    Mutation(
        "a fit in a search keeps Ctrl-C to itself", "fastmlp/training/loop.py",
        "if searches.is_running() and not handles_interrupts:", "if False:",
        "tests/test_searches.py --full -k CtrlC",
    ),
    Mutation(
        "folds of a search are copied", "fastmlp/model_selection/calls.py",
        "to_train = Share(data, split.train)", "to_train = split.inputs(\"train\")",
        "tests/test_model_selection.py -k validated_once",
    ),
    Mutation(
        "steps of a pipeline are fitted for every candidate", "fastmlp/model_selection/calls.py",
        "            if not results:\n", "            if True:\n",
        "tests/test_model_selection.py -k fitted_once",
    ),
    Mutation(
        "halving begins anew", "fastmlp/model_selection/calls.py",
        "if isinstance(network.lr_schedule, str) or not (", "if True or not (",
        "tests/test_model_selection.py -k go_on",
    ),
    Mutation(
        "the longest fits of a search run last", "fastmlp/model_selection/calls.py",
        "self.order = group, -cost", "self.order = group, cost",
        "tests/test_model_selection.py -k longest",
    ),
    Mutation(
        "a search of networks goes in scikit-learn's way", "fastmlp/model_selection/threads.py",
        "    if network is None:\n", "    if True:\n",
        "tests/test_model_selection.py -k in_threads",
    ),
    Mutation(
        "data that fit are read in blocks", "fastmlp/estimators/on_disk.py",
        "_IN_MEMORY, _WINDOW = 0.5, 0.25", "_IN_MEMORY, _WINDOW = 0.0, 0.25",
        "tests/test_blocks.py -k 'same_bits or half_of_memory'",
    ),
    Mutation(
        "rows of files are read by touching pages", "fastmlp/blocks/rows.py",
        "        if self._file is None and self._path is None:\n", "        if True:\n",
        "tests/test_blocks.py -k from_the_file",
    ),
    Mutation(
        "a window is consecutive blocks", "fastmlp/estimators/on_disk.py",
        "            job.random_state.shuffle(permutation)\n", "            pass\n",
        "tests/test_blocks.py -k sorted",
    ),
    Mutation(
        "rows stay on the workers where they were", "fastmlp/dask/training.py",
        "self._plan = partial(plan, partitions, ask, n_shards, deals=deals)",
        "self._plan = partial(plan, partitions, ask, n_shards, deals=False)",
        "tests/test_dask.py -k average",
    ),
    Mutation(
        "partitions are restricted to workers", "fastmlp/dask/training.py",
        "if self.are_kept or self._generation:", "if self._generation:",
        "tests/test_dask.py --full -k 'at_once and True'",
    ),
]  # fmt: skip


def survives(mutation: Mutation) -> bool:
    """Return whether the tests pass all the same."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "fastmlp"
        left_out = shutil.ignore_patterns(".git", ".venv", "build", "__pycache__", ".*_cache")
        shutil.copytree(ROOT, copy, ignore=left_out)
        path = copy / mutation.file
        text = path.read_text()
        if text.count(mutation.old) != 1:
            raise SystemExit(
                f"{mutation.name}: {mutation.file} must have the text once, and has "
                f"it {text.count(mutation.old)} times"
            )
        path.write_text(text.replace(mutation.old, mutation.new))
        environment = os.environ | {"PYTHONPATH": str(copy), "NUMBA_CACHE_DIR": f"{folder}/numba"}
        if path.suffix != ".py":
            build = [sys.executable, "setup.py", "-q", "build_ext", "--inplace", "--force"]
            subprocess.run(build, cwd=copy, env=environment, check=True, capture_output=True)
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider",
             *shlex.split(mutation.tests)],
            cwd=copy, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        if run.returncode not in (0, 1):
            raise SystemExit(f"{mutation.name}: pytest has not run:\n{run.stdout}{run.stderr}")
        return run.returncode == 0


def main() -> None:
    """Try all mutations, or those that are named."""
    chosen = [m for m in MUTATIONS if not sys.argv[1:] or m.name in sys.argv[1:]]
    survivors = 0
    for mutation in chosen:
        survived = survives(mutation)
        survivors += survived
        print(f"{'SURVIVED' if survived else 'found   '}  {mutation.name}", flush=True)
    print(f"{len(chosen)} mutations, {survivors} survivors")
    sys.exit(survivors > 0)


if __name__ == "__main__":
    main()
