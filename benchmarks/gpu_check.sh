#!/bin/sh
# Everything that needs a GPU: tests, parity with scikit-learn, timings, memory checks.
# Nothing is downloaded. Logs and JSON go to a folder.
#
#     benchmarks/gpu_check.sh FOLDER
#
# PYTHON names the interpreter (python3 otherwise). Exit status: 1 if any part failed.

if [ $# -ne 1 ]; then
    echo "usage: $0 FOLDER" >&2
    exit 2
fi
mkdir -p "$1" || exit 2
out=$(cd "$1" && pwd)
cd "$(dirname "$0")/.." || exit 2
python=${PYTHON:-python3}
unset NUMBA_ENABLE_CUDASIM
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
status=0

# part NAME COMMAND...: run it, keep its output, go on if it fails.
part() {
    name=$1
    shift
    echo "== $name"
    if "$@" > "$out/$name.log" 2>&1; then
        tail -n 12 "$out/$name.log"
    else
        tail -n 40 "$out/$name.log"
        echo "== $name FAILED, see $out/$name.log"
        status=1
    fi
}

part device "$python" -c "
from fastmlp import backends
backends.get('cuda')
from numba import cuda
cuda.detect()
print(cuda.__file__)"
[ $status -eq 0 ] || exit 1

part tests "$python" -m pytest -q --full -p no:cacheprovider -m gpu tests/test_gpu.py tests/test_backends.py
part parity "$python" -c "from fastmlp.cli import main; main()" parity --backend cuda --n 50
part timings "$python" benchmarks/gpu_timings.py "$out/timings.json"
part devices "$python" -c "from fastmlp.cli import main; main()" bench --suite devices \
    --out "$out/devices.json"
if command -v compute-sanitizer > /dev/null; then
    for tool in memcheck racecheck; do
        part "$tool" compute-sanitizer --tool "$tool" --error-exitcode 1 \
            "$python" benchmarks/gpu_timings.py "$out/$tool.json" --quick
    done
else
    echo "== compute-sanitizer is not here, memory is not checked"
fi
exit $status
