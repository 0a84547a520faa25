/**
 * The SQL function by which demographics go from the stored events of a patient who is erased. It is SQL and not
 * TypeScript, so that runtime roles, which must not change events, need no right beyond this one.
 */
import { type Kysely, sql } from "kysely";

/**
 * Creates `event_without_demographics(payload)`: a `PatientEvent` (proto/patient/v1/events.proto) without demographics
 * and otherwise byte for byte as it was. Of bytes that are no protobuf message nothing is left. Part of a migration.
 */
export async function createDemographicsRemover(db: Kysely<unknown>): Promise<void> {
  await sql`
    create function protobuf_varint(message bytea, at int, out value bigint, out next int) language plpgsql immutable as $$
    declare
      shift int := 0;
    begin
      value := 0;
      next := at;
      loop
        value := value | ((get_byte(message, next) & 127)::bigint << shift);
        next := next + 1;
        exit when get_byte(message, next - 1) < 128;
        shift := shift + 7;
      end loop;
    end $$`.execute(db);
  await sql`
    create function protobuf_length(size int) returns bytea language plpgsql immutable as $$
    begin
      if size < 128 then return set_byte('\\x00'::bytea, 0, size); end if;
      return set_byte('\\x00'::bytea, 0, (size & 127) | 128) || protobuf_length(size >> 7);
    end $$`.execute(db);
  // What happened to the patient is in the fields 4 to 9. Each has the demographics in its first field, but merges, in
  // which the other patient comes first.
  await sql`
    create function protobuf_without(message bytea, removed int) returns bytea language plpgsql immutable as $$
    declare
      kept bytea := '';
      at int := 0;
      start int;
      content int;
      tag bigint;
      size bigint;
      inner_message bytea;
    begin
      while at < length(message) loop
        start := at;
        select value, next into tag, at from protobuf_varint(message, at);
        content := at;
        case (tag & 7)::int
          when 0 then at := (protobuf_varint(message, at)).next;
          when 1 then at := at + 8;
          when 2 then
            select value, next into size, content from protobuf_varint(message, at);
            at := (content + size)::int;
          when 5 then at := at + 4;
          else raise exception 'this is no protobuf message';
        end case;
        if at > length(message) or tag < 8 then raise exception 'this is no protobuf message'; end if;
        if removed = 0 and tag in (34, 42, 58, 66, 74) then
          inner_message := protobuf_without(substr(message, content + 1, at - content), case when tag >= 66 then 2 else 1 end);
          kept := kept || set_byte('\\x00'::bytea, 0, tag::int) || protobuf_length(length(inner_message)) || inner_message;
        elsif tag >> 3 <> removed then
          kept := kept || substr(message, start + 1, at - start);
        end if;
      end loop;
      return kept;
    end $$`.execute(db);
  await sql`
    create function event_without_demographics(payload bytea) returns bytea language plpgsql immutable as $$
    begin
      return protobuf_without(payload, 0);
    exception when others then
      return '';
    end $$`.execute(db);
}
