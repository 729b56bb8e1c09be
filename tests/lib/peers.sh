#!/bin/sh
# peers.sh FOLDER: unpacks the programs that tests talk to and that must not
# be installed (Postfix would replace the host's mail server) under FOLDER,
# and nothing but that. What is there already is left alone, so that it works
# without a network from the second time on. Prints nothing unless it fails.
set -eu

folder=${1:?usage: peers.sh FOLDER}
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

# get PACKAGE: downloads and unpacks it.
get() {
    new=$(mktemp -d "$folder/get.XXXXXX")
    # apt's own user must be able to write here.
    chmod 755 "$new"
    if ! (cd "$new" && apt-get -q download "$1" >log 2>&1); then
        apt-get -q update >>"$new/log" 2>&1 || :
        (cd "$new" && apt-get -q download "$1" >>log 2>&1) ||
            { cat "$new/log" >&2; rm -rf "$new"; exit 1; }
    fi
    dpkg -x "$new"/*.deb "$root"
    rm -rf "$new"
}

missing() {
    arch=$(gcc -print-multiarch 2>/dev/null || echo "$(uname -m)-linux-gnu")
    LD_LIBRARY_PATH=$root/usr/lib/postfix:$root/usr/lib/$arch:$root/lib/$arch \
        ldd "$root/usr/sbin/smtp-source" | sed -n 's/ => not found//p'
}

[ -x "$root/usr/sbin/smtp-source" ] || get postfix
while lack=$(missing | head -n 1) && [ -n "$lack" ]; do
    get "$(package_of "$lack")"
done

# A script of that name that finds its libraries.
arch=$(gcc -print-multiarch 2>/dev/null || echo "$(uname -m)-linux-gnu")
mkdir -p "$folder/bin"
cat >"$folder/bin/smtp-source.new" <<EOF
#!/bin/sh
LD_LIBRARY_PATH=$root/usr/lib/postfix:$root/usr/lib/$arch:$root/lib/$arch \\
    exec $root/usr/sbin/smtp-source "\$@"
EOF
chmod +x "$folder/bin/smtp-source.new"
mv "$folder/bin/smtp-source.new" "$folder/bin/smtp-source"
