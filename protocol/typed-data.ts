// Owns EIP-712 hashing of the protocol's structs: static fields and nested structs, which is all the law uses.
import { concatBytes, fromHex, type Hex, keccak256, leftPad, toAddress, utf8, wordOf } from "./bytes.ts";

export type FieldType = "address" | "bytes32" | "bool" | "uint40" | "uint64" | "uint96" | "uint256";
export type StructType = {
  name: string;
  fields: readonly (readonly [name: string, type: FieldType | StructType])[];
};
export type StructValue = { readonly [field: string]: string | bigint | number | boolean | StructValue };

/** What binds a signature to one Escrow on one chain. */
export type Domain = { chainId: bigint; escrow: Hex };

const DOMAIN_TYPE = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)";

/** The canonical type string, nested structs after it in alphabetical order (EIP-712 encodeType). */
export function encodeType(type: StructType): string {
  const nested = new Map<string, StructType>();
  const collect = (struct: StructType) => {
    for (const [, field] of struct.fields) {
      if (typeof field === "string") continue;
      nested.set(field.name, field);
      collect(field);
    }
  };
  collect(type);
  const others = [...nested.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  return [type, ...others].map(describe).join("");
}

function describe(type: StructType): string {
  const fields = type.fields.map(([name, kind]) => `${typeof kind === "string" ? kind : kind.name} ${name}`);
  return `${type.name}(${fields.join(",")})`;
}

const typeHashes = new WeakMap<StructType, Uint8Array>();

function typeHash(type: StructType): Uint8Array {
  let hash = typeHashes.get(type);
  if (!hash) {
    hash = fromHex(keccak256(utf8(encodeType(type))));
    typeHashes.set(type, hash);
  }
  return hash;
}

function encodeField(type: FieldType, value: StructValue[string]): Uint8Array {
  if (type === "address") return leftPad(fromHex(toAddress(String(value))));
  if (type === "bool") return wordOf(value === true ? 1n : 0n);
  if (type === "bytes32") {
    const bytes = fromHex(String(value));
    if (bytes.length !== 32) throw new TypeError("not 32 bytes");
    return bytes;
  }
  const number = BigInt(value as bigint | number);
  if (number >= 1n << BigInt(type.slice(4))) throw new RangeError(`does not fit ${type}`);
  return wordOf(number);
}

/** EIP-712 hashStruct. Throws when a field is missing or does not fit its type. */
export function hashStruct(type: StructType, value: StructValue): Hex {
  const words = type.fields.map(([name, kind]) => {
    const field = value[name];
    if (field === undefined) throw new TypeError(`${type.name}.${name} is missing`);
    return typeof kind === "string"
      ? encodeField(kind, field)
      : fromHex(hashStruct(kind, field as StructValue));
  });
  return keccak256(concatBytes(typeHash(type), ...words));
}

const separators = new Map<string, Uint8Array>();

/** EIP-712 domain separator of {"Infernet Escrow", "1", chainId, escrow}. */
export function domainSeparator(domain: Domain): Hex {
  const words = [utf8(DOMAIN_TYPE), utf8("Infernet Escrow"), utf8("1")].map((part) =>
    fromHex(keccak256(part)),
  );
  return keccak256(concatBytes(...words, wordOf(domain.chainId), leftPad(fromHex(toAddress(domain.escrow)))));
}

/** The digest that is signed: keccak256(0x1901 || domain separator || struct hash). */
export function typedDataDigest(domain: Domain, type: StructType, value: StructValue): Hex {
  const key = `${domain.chainId}:${domain.escrow}`;
  let separator = separators.get(key);
  if (!separator) {
    separator = fromHex(domainSeparator(domain));
    separators.set(key, separator);
  }
  return keccak256(concatBytes(Uint8Array.of(0x19, 0x01), separator, fromHex(hashStruct(type, value))));
}
