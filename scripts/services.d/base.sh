# shellcheck shell=bash
# Where the servers' programs, data and logs are.

# base_folder: .services in the tree, unless the servers' own users, who are not root, could not get there: in a clone
# below /root, for example. It is judged by the folders' modes, so that every user finds the same one.
base_folder() {
  local tree
  tree=$(realpath -m -- "$(dirname -- "$program")/..")
  if [ -n "${LOCKSTEP_SERVICES_DIR:-}" ]; then
    realpath -m -- "$LOCKSTEP_SERVICES_DIR"
  elif [ -z "$(closed_to_others "$tree")" ]; then
    echo "$tree/.services"
  else
    echo "/var/lib/lockstep-services-$(printf '%s' "$tree" | sha256sum | cut -c 1-12)"
  fi
}

# closed_to_others FOLDER: the topmost folder on the way there that is not open to everybody.
closed_to_others() {
  local path='' step
  while IFS= read -rd / step; do
    path+=$step/
    (($(stat -c '0%a' -- "$path") & 1)) || { echo "$path"; return; }
  done <<<"$1/"
}

# say_base: for the commands that put something there.
say_base() {
  local tree closed
  tree=$(realpath -m -- "$(dirname -- "$program")/..")
  [ "$base" = "$tree/.services" ] || [ -n "${LOCKSTEP_SERVICES_DIR:-}" ] && return
  closed=$(closed_to_others "$tree")
  say "the servers' users cannot enter $closed, so their data goes to $base (LOCKSTEP_SERVICES_DIR names another place)"
}
