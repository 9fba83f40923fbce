"""What exported C headers take: flash, RAM and instructions of a Cortex-M4, microseconds here.

    python benchmarks/export_c_size.py

Needs gcc and gcc-arm-none-eabi with its newlib; with qemu-arm it also counts the instructions of
the Cortex-M4's program. Prints Markdown.

Flash and RAM are those of a program that predicts one row, less those of one that has the same row
and does nothing with it: so with expf of the C library, and its errno, but without startup code.
The stack is the sum of the frames of the header's functions. Rows are bytes, four fifths of them 0.
"""

import math
import re
import shutil
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from fastmlp import MLPClassifier
from fastmlp.export import check_c, to_c

MICROCONTROLLER = [(784, 50, 10), (64, 32, 10)]
COMPUTER = [(784, 50, 10), (784, 300, 10)]
DTYPES = ("float32", "int8")
LEVELS = ("gcc -O2", "gcc -O3 -march=native", "clang -O2")

ARM = (
    "arm-none-eabi-gcc -std=c99 -Os -mcpu=cortex-m4 -mthumb -mfloat-abi=hard -mfpu=fpv4-sp-d16 "
    "--specs=nosys.specs --specs=nano.specs -ffunction-sections -Wl,--gc-sections "
    "-Wl,--no-warn-rwx-segments"
).split()

PROGRAM = """
#include "model.h"
uint8_t row[MODEL_N_FEATURES];
volatile int label;
int main(void) { label = CALL; return 0; }
"""

#: Ends by a system call of Linux, which qemu-arm emulates, instead of startup code.
COUNTED = """
#include "model.h"
static const uint8_t row[] = {ROW};
volatile int label;
__attribute__((used)) void _start(void)
{
    for (volatile int i = 0; i < TIMES; i++)
        label = model_predict_u8(row);
    register int status __asm__("r0") = 0;
    register int number __asm__("r7") = 1;
    __asm__ volatile("svc 0" : : "r"(status), "r"(number));
}
"""


def rows(n_rows: int, n_features: int) -> np.ndarray:
    random = np.random.RandomState(0)
    values = random.randint(1, 256, (n_rows, n_features)).astype(np.uint8)
    values[random.uniform(size=values.shape) < 0.8] = 0
    return values


def trained(units: Sequence[int]) -> MLPClassifier:
    model = MLPClassifier(
        units[1:-1], input_scale=1 / 255, max_iter=2, dtype="float32", random_state=0
    )
    X = rows(500, units[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(X, np.arange(500) % units[-1])


def run(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def on_microcontroller(units: Sequence[int], dtype: str, folder: Path) -> list[str]:
    """Return flash, RAM, stack and instructions as text."""
    model = trained(units)
    header = to_c(model, folder / "model.h", dtype=dtype)
    (folder / "program.c").write_text(PROGRAM)
    sizes = []
    for call in ("model_predict_u8(row)", "row[0]"):
        binary = folder / "program.elf"
        run(*ARM, "-fstack-usage", f"-DCALL={call}", folder / "program.c", "-lm", "-o", binary)
        text, data, bss, *_ = map(
            int, run("arm-none-eabi-size", binary).splitlines()[1].split()[:3]
        )
        sizes.append((text + data, data + bss))
        if call != "row[0]":
            usage = "".join(path.read_text() for path in folder.glob("*.su"))
            stack = sum(map(int, re.findall(r":(?:model_[\w.]+|main)\t(\d+)\t", usage)))
    flash, ram = (a - b for a, b in zip(*sizes, strict=True))
    arrays = re.findall(r"^static const (float|int8_t) model_(?!rec)\w+\[(.*?)]", header, re.M)
    n_bytes = sum(
        math.prod(map(int, size.split(" * "))) * {"float": 4, "int8_t": 1}[kind]
        for kind, size in arrays
    )
    return [f"{flash:,}", f"{n_bytes:,}", f"{ram:,}", f"{stack:,}", instructions(model, folder)]


def instructions(model: MLPClassifier, folder: Path) -> str:
    """Return how many instructions the prediction of a row takes, counted in an emulator."""
    if shutil.which("qemu-arm") is None:
        return "-"
    row = ", ".join(map(str, rows(1, model.n_features_in_)[0]))
    (folder / "counted.c").write_text(COUNTED.replace("{ROW}", f"{{{row}}}"))
    counts = []
    for times in (1, 2):
        binary, log = folder / "counted.elf", folder / "counted.log"
        flags = ["-std=gnu99", "-nostartfiles", f"-DTIMES={times}"]
        run(*ARM, *flags, folder / "counted.c", "-lm", "-o", binary)
        command = ["-cpu", "cortex-a15", "-singlestep", "-d", "exec,nochain", "-D", log, binary]
        run("qemu-arm", *command)
        counts.append(log.read_text().count("Trace"))
    return f"{counts[1] - counts[0]:,}"


def microseconds(action: Callable[[], object], repeat: int = 300) -> float:
    """Return the median time of an action."""
    times = []
    for _ in range(repeat):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return 1e6 * float(np.median(times))


def main() -> None:
    print("Cortex-M4, -Os, bytes:\n")
    print("| Units | Weights | Flash | of it numbers | RAM | Stack | Instructions per row |")
    print("|---|---|--:|--:|--:|--:|--:|")
    for units in MICROCONTROLLER:
        for dtype in DTYPES:
            with tempfile.TemporaryDirectory() as folder:
                cells = on_microcontroller(units, dtype, Path(folder))
            print(f"| {'-'.join(map(str, units))} | {dtype} | {' | '.join(cells)} |")
    print("\nThis computer, one thread, microseconds per row:\n")
    print(f"| Units | Weights | {' | '.join(LEVELS)} | fastmlp, single rows |")
    print(f"|---|---|{'--:|' * len(LEVELS)}--:|")
    for units in COMPUTER:
        model = trained(units)
        X = rows(1000, units[0])
        own = microseconds(lambda model=model, one=X[:1]: model.predict_proba(one))
        for dtype in DTYPES:
            header = to_c(model, dtype=dtype)
            checks = [check_c(model, header, X, compiler=level) for level in LEVELS]
            cells = [f"{check.microseconds:.1f}" for check in checks]
            print(f"| {'-'.join(map(str, units))} | {dtype} | {' | '.join(cells)} | {own:.1f} |")


if __name__ == "__main__":
    main()
