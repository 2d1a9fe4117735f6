// Protobuf messages field by field (https://protobuf.dev/programming-guides/encoding/), with the library's reader and writer
// and without its descriptors: for a process that speaks one small protocol, those are 10 MB. Stricter than the library: a
// field of another wire type than its own, or one that reaches beyond its message, is an error and no guess.
import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire';

/** How a field of a message is read; the reader stands behind its tag. */
export interface Field {
  readonly type: WireType;
  readonly read: (reader: BinaryReader) => void;
}

/** By number. Those that are not named are skipped. */
export type Fields = Readonly<Record<number, Field>>;

export function textField(take: (text: string) => void): Field {
  return { type: WireType.LengthDelimited, read: reader => take(reader.string(true)) };
}

/** An enum or an int32. */
export function numberField(take: (value: number) => void): Field {
  return { type: WireType.Varint, read: reader => take(reader.int32()) };
}

export function flagField(take: (value: boolean) => void): Field {
  return { type: WireType.Varint, read: reader => take(reader.bool()) };
}

/** `open` is called when the message begins, as often as it is there: parts of one message add up, the last word on a field holds. */
export function messageField(open: () => Fields): Field {
  return {
    type: WireType.LengthDelimited,
    read: reader => {
      const length = reader.uint32();
      readFields(reader, reader.pos + length, open());
    },
  };
}

/** Reads one whole message. @throws Error and RangeError when these bytes are none */
export function readMessage(bytes: Uint8Array, fields: Fields): void {
  readFields(new BinaryReader(bytes), bytes.length, fields);
}

function readFields(reader: BinaryReader, end: number, fields: Fields): void {
  if (end > reader.len) throw new RangeError('a message reaches beyond its packet');
  while (reader.pos < end) {
    const [number, type] = reader.tag();
    const field = fields[number];
    if (field === undefined) reader.skip(type, number);
    else if (field.type === type) field.read(reader);
    else throw new Error(`field ${number} has wire type ${type}`);
  }
  if (reader.pos !== end) throw new RangeError('a field reaches beyond its message');
}

/** What `write` writes, as one message. */
export function writeMessage(write: (writer: BinaryWriter) => void): Uint8Array {
  const writer = new BinaryWriter();
  write(writer);
  return writer.finish();
}

/** Nothing when it is empty, as in proto3. */
export function writeText(writer: BinaryWriter, number: number, text: string): void {
  if (text !== '') writer.tag(number, WireType.LengthDelimited).string(text);
}

/** A message within a message; it is there even when nothing is in it. */
export function writeWithin(writer: BinaryWriter, number: number, write: (writer: BinaryWriter) => void): void {
  writer.tag(number, WireType.LengthDelimited).fork();
  write(writer);
  writer.join();
}

/** Nothing when it is 0, as in proto3. */
export function writeNumber(writer: BinaryWriter, number: number, value: number): void {
  if (value !== 0) writer.tag(number, WireType.Varint).int32(value);
}
