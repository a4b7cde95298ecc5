# Runs a daemon for as long as another process lives, then ends it and deletes its folder.
# Usage: sh watched.sh PID FOLDER COMMAND...
run=$1 folder=$2
shift 2
"$@" &
daemon=$!
while kill -0 "$run" 2>/dev/null && kill -0 "$daemon" 2>/dev/null; do sleep 1; done
kill "$daemon" 2>/dev/null
wait "$daemon"
rm -rf "$folder"
