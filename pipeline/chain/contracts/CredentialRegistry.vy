# pragma version 0.4.3
# pragma evm-version paris
# pragma optimize gas
"""
@title Credential registry
@license MIT
@notice Says which Merkle roots of credentials were anchored, by whom and when, and
        whether a credential is in one of them. Issuers write; an owner names them.
@dev Trees and proofs are OpenZeppelin's `standard-v1`: a leaf is
     keccak256(keccak256(abi.encode(string, bytes32, string, bytes32))) of the credential's
     id, data hash, CID ("" for none) and salt; a node is keccak256 of its two children, the
     smaller one first. A tree of one leaf has that leaf as its root, and an empty proof.
     Revert reasons are `Error(string)` and begin with "registry: ".
"""


event Anchored:
    root: indexed(bytes32)
    issuer: indexed(address)

event RootRevoked:
    root: indexed(bytes32)
    by: indexed(address)

event LeafRevoked:
    root: indexed(bytes32)
    leaf: indexed(bytes32)
    by: indexed(address)

event IssuerAdded:
    account: indexed(address)

event IssuerRemoved:
    account: indexed(address)

event OwnershipTransferStarted:
    previousOwner: indexed(address)
    newOwner: indexed(address)

event OwnershipTransferred:
    previousOwner: indexed(address)
    newOwner: indexed(address)


# A client tells by this text that the code at an address is this registry.
VERSION: constant(String[24]) = "CredentialRegistry 1"

# A proof of 32 siblings is one in a tree of 4 billion leaves.
MAX_PROOF: constant(uint256) = 32

# An id has up to 255 characters, each up to 4 bytes in UTF-8.
MAX_ID_BYTES: constant(uint256) = 1020
MAX_CID_BYTES: constant(uint256) = 1024

# An anchor fits one slot, which is what keeps anchoring cheap:
# bits 0..63 the block's timestamp, 64..223 the issuer, 224 whether the root is revoked.
ISSUER_SHIFT: constant(uint256) = 64
TIMESTAMP_MASK: constant(uint256) = 2**64 - 1
REVOKED: constant(uint256) = 2**224

owner: public(address)
pendingOwner: public(address)
isIssuer: public(HashMap[address, bool])
anchors: HashMap[bytes32, uint256]
revokedLeaves: HashMap[bytes32, HashMap[bytes32, bool]]


@deploy
def __init__():
    """
    @notice The deployer becomes the owner and the first issuer.
    """
    self.owner = msg.sender
    self.isIssuer[msg.sender] = True
    log OwnershipTransferred(previousOwner=empty(address), newOwner=msg.sender)
    log IssuerAdded(account=msg.sender)


@external
def anchor(root: bytes32):
    """
    @notice Anchors a Merkle root, once and for all.
    @param root The root of a tree of one credential or more.
    """
    assert self.isIssuer[msg.sender], "registry: not an issuer"
    assert root != empty(bytes32), "registry: empty root"
    assert self.anchors[root] == 0, "registry: already anchored"
    self.anchors[root] = (convert(msg.sender, uint256) << ISSUER_SHIFT) | block.timestamp
    log Anchored(root=root, issuer=msg.sender)


@external
def revokeRoot(root: bytes32):
    """
    @notice Revokes all credentials under a root. For its issuer, and the owner.
    """
    packed: uint256 = self._revocable(root)
    assert packed & REVOKED == 0, "registry: already revoked"
    self.anchors[root] = packed | REVOKED
    log RootRevoked(root=root, by=msg.sender)


@external
def revokeLeaf(root: bytes32, leaf: bytes32):
    """
    @notice Revokes one credential under a root. For the root's issuer, and the owner.
    """
    self._revocable(root)
    assert not self.revokedLeaves[root][leaf], "registry: already revoked"
    self.revokedLeaves[root][leaf] = True
    log LeafRevoked(root=root, leaf=leaf, by=msg.sender)


@external
def addIssuer(account: address):
    """
    @notice Lets an account anchor roots. For the owner.
    """
    self._check_owner()
    assert account != empty(address), "registry: empty address"
    assert not self.isIssuer[account], "registry: already an issuer"
    self.isIssuer[account] = True
    log IssuerAdded(account=account)


@external
def removeIssuer(account: address):
    """
    @notice Takes the role away. What the account anchored stays; it can't revoke that any more.
    """
    self._check_owner()
    assert self.isIssuer[account], "registry: not an issuer"
    self.isIssuer[account] = False
    log IssuerRemoved(account=account)


@external
def transferOwnership(newOwner: address):
    """
    @notice Offers the ownership; it moves when the other side accepts. The empty address
            takes an offer back. For the owner.
    """
    self._check_owner()
    self.pendingOwner = newOwner
    log OwnershipTransferStarted(previousOwner=msg.sender, newOwner=newOwner)


@external
def acceptOwnership():
    """
    @notice Takes over the ownership that was offered to the sender. Issuers stay as they are.
    """
    assert msg.sender == self.pendingOwner, "registry: not the pending owner"
    previous: address = self.owner
    self.owner = msg.sender
    self.pendingOwner = empty(address)
    log OwnershipTransferred(previousOwner=previous, newOwner=msg.sender)


@external
@pure
def version() -> String[24]:
    """
    @notice What this contract is.
    """
    return VERSION


@external
@view
def isAnchored(root: bytes32) -> bool:
    """
    @notice Whether the root was ever anchored; a revocation does not undo that.
    """
    return self.anchors[root] != 0


@external
@view
def anchoredBy(root: bytes32) -> (address, uint256):
    """
    @notice Who anchored the root, and the timestamp of that block; zeros when nobody did.
    """
    packed: uint256 = self.anchors[root]
    issuer: uint160 = convert((packed >> ISSUER_SHIFT) & convert(max_value(uint160), uint256), uint160)
    return convert(issuer, address), packed & TIMESTAMP_MASK


@external
@view
def isRevoked(root: bytes32, leaf: bytes32) -> bool:
    """
    @notice Whether the root, or this leaf of it, was revoked.
    """
    return self._is_revoked(root, leaf)


@external
@view
def isIssued(root: bytes32, leaf: bytes32, proof: DynArray[bytes32, MAX_PROOF]) -> bool:
    """
    @notice Whether the leaf is in an anchored tree, revoked or not.
    @dev OpenAttestation's document stores answer to the same call.
    """
    return self._is_issued(root, leaf, proof)


@external
@view
def verify(root: bytes32, leaf: bytes32, proof: DynArray[bytes32, MAX_PROOF]) -> bool:
    """
    @notice Whether the leaf is in an anchored tree, and neither is revoked.
    @dev A caller that was given the leaf instead of its values can not tell it from an inner
         node of the tree: `verifyCredential` can.
    """
    return self._is_issued(root, leaf, proof) and not self._is_revoked(root, leaf)


@external
@view
def verifyCredential(
    root: bytes32,
    id: String[MAX_ID_BYTES],
    dataHash: bytes32,
    cid: String[MAX_CID_BYTES],
    salt: bytes32,
    proof: DynArray[bytes32, MAX_PROOF],
) -> bool:
    """
    @notice Whether the credential is in an anchored tree, and neither is revoked.
    @param id The credential's id.
    @param dataHash SHA-256 of the credential's document in its RFC 8785 form.
    @param cid The IPFS CID, or "".
    @param salt The random bytes that keep a leaf from being guessed.
    @param proof The siblings on the way from the leaf to the root.
    """
    leaf: bytes32 = keccak256(keccak256(abi_encode(id, dataHash, cid, salt)))
    return self._is_issued(root, leaf, proof) and not self._is_revoked(root, leaf)


@internal
@view
def _check_owner():
    assert msg.sender == self.owner, "registry: not the owner"


@internal
@view
def _revocable(root: bytes32) -> uint256:
    packed: uint256 = self.anchors[root]
    assert packed != 0, "registry: not anchored"
    if msg.sender != self.owner:
        issuer: uint256 = (packed >> ISSUER_SHIFT) & convert(max_value(uint160), uint256)
        own: bool = issuer == convert(msg.sender, uint256) and self.isIssuer[msg.sender]
        assert own, "registry: neither the root's issuer nor the owner"
    return packed


@internal
@view
def _is_revoked(root: bytes32, leaf: bytes32) -> bool:
    return self.anchors[root] & REVOKED != 0 or self.revokedLeaves[root][leaf]


@internal
@view
def _is_issued(root: bytes32, leaf: bytes32, proof: DynArray[bytes32, MAX_PROOF]) -> bool:
    if self.anchors[root] == 0:
        return False
    node: bytes32 = leaf
    for sibling: bytes32 in proof:
        if convert(node, uint256) < convert(sibling, uint256):
            node = keccak256(concat(node, sibling))
        else:
            node = keccak256(concat(sibling, node))
    return node == root
