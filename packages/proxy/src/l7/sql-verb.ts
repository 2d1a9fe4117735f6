// The first word of an SQL text as one of a closed list. It reads as little of SQL as that needs: blanks, comments,
// brackets. Texts whose word lies behind what was given are OTHER.
import { KnownWords } from './known-words.ts';

/** First words of statements of PostgreSQL, MySQL and MariaDB, and of PostgreSQL's command tags. */
export const SQL_VERBS = new KnownWords(
  `
  SELECT INSERT UPDATE DELETE MERGE REPLACE WITH VALUES TABLE COPY CALL DO
  BEGIN START COMMIT END ROLLBACK ABORT SAVEPOINT RELEASE XA LOCK UNLOCK
  PREPARE EXECUTE DEALLOCATE DECLARE FETCH MOVE CLOSE OPEN HANDLER
  CREATE ALTER DROP TRUNCATE RENAME COMMENT GRANT REVOKE REASSIGN SECURITY IMPORT
  SET RESET SHOW DISCARD USE DESCRIBE DESC EXPLAIN ANALYZE HELP GET
  VACUUM CLUSTER REINDEX REFRESH CHECKPOINT CHECK CHECKSUM OPTIMIZE REPAIR CACHE
  LISTEN NOTIFY UNLISTEN LOAD FLUSH KILL PURGE CHANGE STOP BINLOG SHUTDOWN
  INSTALL UNINSTALL SIGNAL RESIGNAL RESTART CLONE BACKUP
  `
    .trim()
    .split(/\s+/),
);

const SLASH = 0x2f;
const STAR = 0x2a;
const DASH = 0x2d;
const HASH = 0x23;
const NEWLINE = 0x0a;

/**
 * Number in `SQL_VERBS` of the first word between `start` and `end`; 0 when there is none or it is unknown. MySQL's
 * executable comments (`/*!40101 SET ...`) count as text. `isWhole`: the text ends at `end`, so a word that does is whole.
 */
export function sqlVerb(bytes: Uint8Array, start: number, end: number, isWhole: boolean): number {
  let at = start;
  while (at < end) {
    const byte = bytes[at] ?? 0;
    const next = bytes[at + 1];
    if (isLetter(byte)) {
      let stop = at + 1;
      while (stop < end && isLetter(bytes[stop] ?? 0)) stop++;
      return stop < end || isWhole ? SQL_VERBS.find(bytes, at, stop) : 0;
    }
    if (byte <= 0x20 || byte === 0x28 || byte === 0x3b) at++;
    else if (byte === SLASH && next === STAR) at = afterBlockComment(bytes, at + 2, end);
    else if (byte === HASH || (byte === DASH && next === DASH)) at = afterLine(bytes, at, end);
    else return 0;
  }
  return 0;
}

function isLetter(byte: number): boolean {
  const lower = byte | 0x20;
  return lower >= 0x61 && lower <= 0x7a;
}

function afterBlockComment(bytes: Uint8Array, start: number, end: number): number {
  let at = start;
  if (bytes[at] === 0x4d && bytes[at + 1] === 0x21) at++;
  if (bytes[at] === 0x21) {
    at++;
    while (at < end && isDigit(bytes[at] ?? 0)) at++;
    return at;
  }
  while (at < end && !(bytes[at] === STAR && bytes[at + 1] === SLASH)) at++;
  return at + 2;
}

function afterLine(bytes: Uint8Array, start: number, end: number): number {
  let at = start;
  while (at < end && bytes[at] !== NEWLINE) at++;
  return at;
}

function isDigit(byte: number): boolean {
  return byte >= 0x30 && byte <= 0x39;
}
