#!/bin/bash
# Makes a database and four roles for every service: <service>_owner migrates and owns the tables, <service> is for run
# time, <service>_anchor reads the hashes of the audit chain, and <service>_doctor what the doctor verifies. In
# k8s/standalone the image runs this once, when the volume is new; in k8s/rds a Job runs it, as a role that is no
# superuser, for each service on the instance that SERVERS names. After a changed password, or for a new service or role,
# run it again:
#   kubectl exec postgres-0 -- bash /docker-entrypoint-initdb.d/roles.sh
# In a subshell, because the image's entry point may source this file instead of running it.
(
  set -euo pipefail
  export PGUSER=${PGUSER:-postgres}
  passwords=${PASSWORDS:-/etc/postgresql/passwords}
  # Who is no superuser has to be a member of the roles that they make, to give databases to them.
  export PGOPTIONS='--client-min-messages=warning -c createrole_self_grant=set,inherit'
  for service in patient billing analytics auth; do
    if [[ -n ${SERVERS:-} ]]; then
      PGHOST=$(<"$SERVERS/$service.host") PGUSER=$(<"$SERVERS/$service.username") PGPASSWORD=$(<"$SERVERS/$service.password")
      export PGHOST PGUSER PGPASSWORD
    fi
    # Everybody may connect to these two by default, also the roles of services.
    psql --no-psqlrc --quiet -v ON_ERROR_STOP=1 -d postgres -c 'REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC'
    psql --no-psqlrc --quiet -v ON_ERROR_STOP=1 -d postgres -v service="$service" -v owner="${service}_owner" -v anchor="${service}_anchor" -v doctor="${service}_doctor" <<SQL
\set password \`cat $passwords/$service\`
\set owner_password \`cat $passwords/$service-owner\`
\set anchor_password \`cat $passwords/$service-anchor\`
\set doctor_password \`cat $passwords/$service-doctor\`
SELECT format('CREATE ROLE %I LOGIN', name) FROM unnest(ARRAY[:'service', :'owner', :'anchor', :'doctor']) AS name
  WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
ALTER ROLE :"service" PASSWORD :'password';
ALTER ROLE :"owner" PASSWORD :'owner_password';
ALTER ROLE :"anchor" PASSWORD :'anchor_password';
ALTER ROLE :"doctor" PASSWORD :'doctor_password';
-- The database sorts and changes case by Unicode, with any locale of the image.
SELECT format('CREATE DATABASE %I OWNER %I TEMPLATE template0 ENCODING ''UTF8'' LOCALE_PROVIDER builtin BUILTIN_LOCALE ''C.UTF-8'' LOCALE ''C''', :'service', :'owner')
  WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'service') \gexec
REVOKE ALL ON DATABASE :"service" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"service" TO :"service", :"anchor", :"doctor";
\connect :"service"
-- Migrations need these. This role makes them, so that an owner needs no right to make extensions.
CREATE EXTENSION IF NOT EXISTS citext;
CREATE EXTENSION IF NOT EXISTS pg_trgm;
SQL
  done
)
