#!/bin/bash
# A database and two roles for every service: <service>_owner migrates and owns the tables, <service> runs. The image runs
# this once, when the volume is new; run it again by hand to take up changed passwords or a new service:
#   kubectl exec postgres-0 -- bash /docker-entrypoint-initdb.d/roles.sh
# In a subshell, for an entry point may read this file into itself instead of running it.
(
  set -euo pipefail
  for service in patient billing analytics auth; do
    PGOPTIONS='--client-min-messages=warning' psql --no-psqlrc --quiet -v ON_ERROR_STOP=1 -U postgres -d postgres -v service="$service" -v owner="${service}_owner" <<SQL
\set password \`cat /etc/postgresql/passwords/$service\`
\set owner_password \`cat /etc/postgresql/passwords/$service-owner\`
SELECT format('CREATE ROLE %I LOGIN', name) FROM unnest(ARRAY[:'service', :'owner']) AS name
  WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
ALTER ROLE :"service" PASSWORD :'password';
ALTER ROLE :"owner" PASSWORD :'owner_password';
-- Sorting and upper case by Unicode, whatever the locale of the image is.
SELECT format('CREATE DATABASE %I OWNER %I TEMPLATE template0 ENCODING ''UTF8'' LOCALE_PROVIDER builtin BUILTIN_LOCALE ''C.UTF-8'' LOCALE ''C''', :'service', :'owner')
  WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'service') \gexec
REVOKE ALL ON DATABASE :"service" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"service" TO :"service";
\connect :"service"
-- Migrations rely on these; they are made here so that an owner needs no right to make any.
CREATE EXTENSION IF NOT EXISTS citext;
CREATE EXTENSION IF NOT EXISTS pg_trgm;
SQL
  done
)
