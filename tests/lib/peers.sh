#!/bin/sh
# peers.sh FOLDER [mail | stores]: unpacks the programs that tests talk to and
# that must not be installed (Postfix would replace the host's mail server, a
# database would start) under FOLDER, and nothing but that: mail (the default)
# is Postfix's smtp-source; stores are what tests/bench/kv-compare compares
# with, and gnuplot. What is there already is left alone, so that it works
# without a network from the second time on. Prints nothing unless it fails.
set -eu

folder=${1:?usage: peers.sh FOLDER [mail | stores]}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
root=$folder/root

# Libraries that a small system may lack, and their packages.
package_of() {
    case $1 in
    libdb-5.3.so) echo libdb5.3 ;;
    libnsl.so.2) echo libnsl2 ;;
    libtirpc.so.3) echo libtirpc3 ;;
    libicuuc.so.72 | libicudata.so.72) echo libicu72 ;;
    *) echo "peers.sh: no package is known for $1" >&2; return 1 ;;
    esac
}

# get PACKAGE...: downloads and unpacks them.
get() {
    new=$(mktemp -d "$folder/get.XXXXXX")
    # apt's own user must be able to write here.
    chmod 755 "$new"
    if ! (cd "$new" && apt-get -q download "$@" >log 2>&1); then
        apt-get -q update >>"$new/log" 2>&1 || :
        (cd "$new" && apt-get -q download "$@" >>log 2>&1) ||
            { cat "$new/log" >&2; rm -rf "$new"; exit 1; }
    fi
    for deb in "$new"/*.deb; do
        dpkg -x "$deb" "$root"
    done
    rm -rf "$new"
}

# script NAME LIBRARIES COMMAND: a script of that name that finds its libraries.
script() {
    cat >"$folder/bin/$1.new" <<EOF
#!/bin/sh
LD_LIBRARY_PATH=$2 exec $3 "\$@"
EOF
    chmod 755 "$folder/bin/$1.new"
    mv "$folder/bin/$1.new" "$folder/bin/$1"
}

arch=$(gcc -print-multiarch 2>/dev/null || echo "$(uname -m)-linux-gnu")
mkdir -p "$folder/bin"

# Packages with all that they depend on and that is not installed, as apt
# would install it.
stores() {
    packages="etcd-server redis-server redis-tools postgresql-15
        postgresql-client-15 gnuplot-nox"
    [ -e "$folder/stores" ] && return
    plan() {
        # shellcheck disable=SC2086
        apt-get -s -q --no-install-recommends install $packages 2>/dev/null
    }
    plan >/dev/null || apt-get -q update >/dev/null 2>&1 || :
    # shellcheck disable=SC2046,SC2086
    get $( (plan | sed -n 's/^Inst \([^ ]*\) .*/\1/p'
        printf '%s\n' $packages) | sort -u)
    libs=$root/usr/lib/$arch:$root/lib/$arch
    pg=$root/usr/lib/postgresql/15/bin
    script etcd "$libs" "$root/usr/bin/etcd"
    script redis-server "$libs" "$root/usr/bin/redis-server"
    script gnuplot "$libs" "$root/usr/bin/gnuplot-nox"
    for p in postgres initdb pg_basebackup psql pgbench; do
        script $p "$libs" "$pg/$p"
    done
    chmod -R a+rX "$folder/root" "$folder/bin"
    : >"$folder/stores"
}

case ${2:-mail} in
mail) ;;
stores) stores; exit 0 ;;
*) echo "peers.sh: no peers of that kind: $2" >&2; exit 2 ;;
esac

missing() {
    LD_LIBRARY_PATH=$root/usr/lib/postfix:$root/usr/lib/$arch:$root/lib/$arch \
        ldd "$root/usr/sbin/smtp-source" | sed -n 's/ => not found//p'
}

[ -x "$root/usr/sbin/smtp-source" ] || get postfix
while lack=$(missing | head -n 1) && [ -n "$lack" ]; do
    get "$(package_of "$lack")"
done

script smtp-source "$root/usr/lib/postfix:$root/usr/lib/$arch:$root/lib/$arch" \
    "$root/usr/sbin/smtp-source"
