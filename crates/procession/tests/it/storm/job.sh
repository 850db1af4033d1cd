# The program of the storm: says that it ran, prints numbered lines of which each continues
# the sum of the one before, leaves what its kind leaves, ends as it is told.
n=$1 lines=$2 errors=$3 code=$4 kind=$5
echo "$PROCESSION_JOB_ID" >> ran

write() {
    [ "$2" = 0 ] || awk -v n="$n" -v stream="$1" -v count="$2" 'BEGIN {
        x = n * 16 + stream + 1
        for (i = 1; i <= count; i++) {
            line = n " " stream " " i
            for (k = 0; k < 6; k++) {
                x = (x * 16807) % 2147483647
                line = line sprintf(" %010d", x)
            }
            print line
        }
    }'
}

case $kind in
merged)
    for part in 0 1 2 3; do
        write $part "$lines"
        write $((part + 4)) "$errors" >&2
    done
    ;;
slow)
    write 0 "$lines"
    sleep 0.4
    write 1 "$lines"
    write 4 "$errors" >&2
    sleep 0.4
    write 2 "$lines"
    ;;
*)
    write 0 "$lines"
    write 4 "$errors" >&2
    ;;
esac

case $kind in
leaves)
    mkdir "$PROCESSION_ARTIFACTS/sub"
    write 8 "$lines" > "$PROCESSION_ARTIFACTS/lines"
    write 9 3 > "$PROCESSION_ARTIFACTS/sub/few"
    { printf '"'; head -c "$((n % 5 * 30000 + 1))" /dev/zero | tr '\0' 7; printf '"'; } > "$PROCESSION_RESULT"
    ;;
signal)
    kill -"$code" $$
    ;;
timed | endless)
    exec sleep 600
    ;;
esac
exit "$code"
