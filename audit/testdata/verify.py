# Verifies an export of the audit log, or with two files more a proof, with nothing of AgentKeys:
#   verify.py VKEY EXPORT [PROOF LINE]      (docs/audit-format.md; the standard library alone)
import base64, hashlib, json, sys

def sha(b): return hashlib.sha256(b).digest()
def node(l, r): return sha(b"\1" + l + r)
def canonical(o): return json.dumps(o, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()

# Ed25519 (RFC 8032, section 6): verification alone.
P, Q = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
def add(a, b):
    A, B = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    C, E = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    return ((B - A) * (E - C) % P, (E + C) * (B + A) % P, (E - C) * (E + C) % P, (B - A) * (B + A) % P)
def mul(s, p):
    if s == 0: return (0, 1, 1, 0)
    return add(mul(s >> 1, add(p, p)), p if s & 1 else (0, 1, 1, 0))
def point(b):
    y, sign = int.from_bytes(b, "little") & (1 << 255) - 1, b[31] >> 7
    xx = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(xx, (P + 3) // 8, P)
    if (x * x - xx) % P: x = x * pow(2, (P - 1) // 4, P) % P
    assert y < P and (x * x - xx) % P == 0, "not a point of the curve"
    return (P - x if x & 1 != sign else x, y, 1, x * y % P if x & 1 == sign else (P - x) * y % P)
def signed(key, text, sig):
    h, s = int.from_bytes(hashlib.sha512(sig[:32] + key + text).digest(), "little") % Q, int.from_bytes(sig[32:], "little")
    l, r = mul(s, point(b"X" + b"f" * 31)), add(point(sig[:32]), mul(h, point(key)))
    return s < Q and (l[0] * r[2] - r[0] * l[2]) % P == 0 and (l[1] * r[2] - r[1] * l[2]) % P == 0

def checkpoint(note, vkey):  # C2SP signed-note and tlog-checkpoint
    name, key_hash, key = vkey.split("+", 2)
    text, sigs = note.split("\n\n")
    sig = [base64.b64decode(s.split(" ")[2]) for s in sigs.splitlines() if s.startswith("\u2014 " + name + " ")]
    sig = [s[4:] for s in sig if s[:4].hex() == key_hash]
    origin, size, root = text.splitlines()
    assert origin == name and sig and signed(base64.b64decode(key)[1:], (text + "\n").encode(), sig[0]), "no signature by " + vkey
    return int(size), base64.b64decode(root)
def leaf(line):
    if "leaf" not in line: return bytes.fromhex(line["hash"])  # pruned
    assert sha(b"\0" + canonical(line["leaf"])).hex() == line["hash"], "place %d: its leaf has another hash" % line["place"]
    digest = sha(bytes.fromhex(line["salt"]) + canonical(line["person"])).hex() if "person" in line else line["leaf"]["person"]
    assert digest == line["leaf"]["person"], "place %d: its personal members have another digest" % line["place"]
    return bytes.fromhex(line["hash"])
def root(h):  # RFC 6962, section 2.1
    k = 1 << (len(h) - 1).bit_length() >> 1  # the largest power of two below len(h)
    return node(root(h[:k]), root(h[k:])) if k else h[0]
def climb(i, size, h, path):  # RFC 9162, section 2.1.3.2
    fn, sn = i, size - 1
    for p in path:
        assert sn > 0, "the proof is too long"
        h, left = (node(p, h), True) if fn & 1 or fn == sn else (node(h, p), False)
        while left and not fn & 1: fn, sn = fn >> 1, sn >> 1
        fn, sn = fn >> 1, sn >> 1
    assert sn == 0, "the proof is too short"
    return h

vkey, lines = sys.argv[1], [json.loads(l) for l in open(sys.argv[2], encoding="utf-8")]
size, want = checkpoint(lines.pop()["checkpoint"], vkey)
assert [l["place"] for l in lines] == list(range(1, size + 1)), "places are missing, or there twice"
assert root([leaf(l) for l in lines]) == want, "the records have another root than the checkpoint"
if len(sys.argv) > 3:
    (head, note), line = open(sys.argv[3], encoding="utf-8").read().split("\n\n", 1), json.load(open(sys.argv[4], encoding="utf-8"))
    (version, index, *path), (of, want) = head.split("\n"), checkpoint(note, vkey)
    assert version == "c2sp.org/tlog-proof@v1" and index == "index %d" % (line["place"] - 1), "the proof of another record"
    assert climb(line["place"] - 1, of, leaf(line), [base64.b64decode(h) for h in path]) == want, "the proof leads elsewhere"
print("%d records" % size)
