#!/usr/bin/env bash
# Copy one database into a dated archive:  backup.sh FOLDER [DATABASE]
# mongodump asks for the password. Back with: mongorestore --gzip --archive=FILE
set -euo pipefail
folder=${1:?name a folder}
database=${2:-al_charge}
address=${AL_CHARGE_BACKUP_HOST:-127.0.0.1:27017}

umask 077
file=$folder/$database-$(date -u +%Y%m%dT%H%M%SZ).archive.gz
mongodump --host "$address" --username "${AL_CHARGE_BACKUP_USER:-reader}" \
    --authenticationDatabase "$database" --db "$database" --gzip --archive="$file.part"
mv "$file.part" "$file"
echo "$file"
