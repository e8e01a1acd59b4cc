#!/bin/sh
# A PACS (Orthanc), a viewer (OHIF) and the node, with a demo study: `sh deploy/viewer/start.sh [FOLDER]`, until Ctrl-C.
# Open http://127.0.0.1:8080 once it says so. Everything listens on loopback; everything made lies in FOLDER.
# The node has its page, too: VIEWER_PORT, PAGE_PORT, PACS_PORT, PACS_HTTP and NODE_PORT choose other ports; DEMO=no starts without the study.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${1:-viewer-demo}"
folder=$(cd "${1:-viewer-demo}" && pwd)
page=${PAGE_PORT:-8081} viewer=${VIEWER_PORT:-8080} pacs=${PACS_PORT:-4242} http=${PACS_HTTP:-8042} node=${NODE_PORT:-11112}
export TCP_NODELAY=1
PATH=$PATH:/usr/sbin

# only what is absent: an npm of another origin than Debian's refuses Debian's beside it
absent=
{ command -v Orthanc >/dev/null && [ -e /usr/share/orthanc/plugins/libOrthancDicomWeb.so ]; } || absent="orthanc orthanc-dicomweb"
command -v nginx >/dev/null || absent="$absent nginx-light"
command -v npm >/dev/null || absent="$absent nodejs npm"
if [ "$absent" ]; then
    apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $absent
fi
[ -x "$here/../../.venv/bin/dicom-node" ] || sh "$here/../install.sh"
ohif=$(sed -n 's/.*"ohif": "\([0-9.]*\)".*/\1/p' "$here/package.json")
app=${OHIF_FOLDER:-$here/node_modules/ohif-$ohif}
if [ ! -e "$app/package/dist/index.html" ]; then
    mkdir -p "$app"
    # Packed, not installed: the viewer comes built, its hundreds of dependencies are not needed.
    (cd "$app" && npm pack --silent "@ohif/app@$ohif" && tar xzf ohif-app-*.tgz && rm ohif-app-*.tgz)
fi

mkdir -p "$folder/nginx" "$folder/web"
cp -r "$app/package/dist/." "$folder/web"
cp "$here/ohif.js" "$folder/web/app-config.js"
# the copy packed beside it would win where the browser takes compressed files
rm -f "$folder"/web/app-config.js.*
cat > "$folder/orthanc.json" <<END
{"Name": "demo", "StorageDirectory": "$folder/orthanc", "IndexDirectory": "$folder/orthanc", "DicomAet": "ORTHANC",
 "DicomPort": $pacs, "HttpPort": $http, "RemoteAccessAllowed": false, "AuthenticationEnabled": false,
 "UnknownSopClassAccepted": true, "OverwriteInstances": false,
 "Plugins": ["/usr/share/orthanc/plugins/libOrthancDicomWeb.so"], "DicomWeb": {"Enable": true, "Root": "/dicom-web/"}}
END
cat > "$folder/nginx.conf" <<END
user $(id -un) $(id -gn); daemon off; pid $folder/nginx/pid; error_log $folder/nginx/error.log; worker_processes 1;
events { worker_connections 256; }
http {
    include /etc/nginx/mime.types; 
    access_log off; sendfile on; client_max_body_size 0;
    client_body_temp_path $folder/nginx/body; proxy_temp_path $folder/nginx/proxy;
    fastcgi_temp_path $folder/nginx/f; uwsgi_temp_path $folder/nginx/u; scgi_temp_path $folder/nginx/s;
    server {
        listen 127.0.0.1:$viewer; root $folder/web;
        location ~ ^/(dicom-web/|wado) {
            proxy_pass http://127.0.0.1:$http; proxy_buffering off; proxy_set_header Host \$http_host;
        }
        location / { try_files \$uri /index.html; }
    }
}
END
cat > "$folder/node.toml" <<END
storage = "node"
[receive]
port = $node
quiet_seconds = 3.0
[web]
port = $page
viewer_url = "http://127.0.0.1:$viewer/viewer?StudyInstanceUIDs={study}"
[[destinations]]
name = "pacs"
ae_title = "ORTHANC"
host = "127.0.0.1"
port = $pacs
# OHIF 3.13.2 opens no Key Object Selection
objects = ["seg", "sr", "captures", "coronal", "pdf", "maps"]
END

pids=""
trap 'kill $pids 2>/dev/null; wait' EXIT
trap 'exit 0' INT TERM
mkdir -p "$folder/orthanc"
Orthanc "$folder/orthanc.json" >"$folder/orthanc.log" 2>&1 & pids="$pids $!"
nginx -c "$folder/nginx.conf" >"$folder/nginx.log" 2>&1 & pids="$pids $!"
"$here/../../.venv/bin/dicom-node" serve -c "$folder/node.toml" 2>"$folder/node.log" & pids="$pids $!"
if [ "${DEMO:-yes}" = yes ]; then
    "$here/../../.venv/bin/python" "$here/send_demo.py" "$folder" "$node" "$pacs"
fi
# a user of the page, with a password that only this terminal shows
password=$(od -An -tx1 -N9 /dev/urandom | tr -d ' \n')
for _ in $(seq 60); do
    if echo "$password" | "$here/../../.venv/bin/dicom-node" user add demo --role admin -c "$folder/node.toml" 2>/dev/null >&2; then
        echo "Page: http://127.0.0.1:$page   (name demo, password $password)"
        break
    fi
    # a folder that was used before has its user
    if "$here/../../.venv/bin/dicom-node" user list -c "$folder/node.toml" 2>/dev/null | grep -q demo; then
        echo "$password" | "$here/../../.venv/bin/dicom-node" user password demo -c "$folder/node.toml" >/dev/null
        echo "Page: http://127.0.0.1:$page   (name demo, password $password)"
        break
    fi
    sleep 1
done
echo "Viewer: http://127.0.0.1:$viewer   (Ctrl-C ends it)"
wait
