//! Schemas that a derive does not make: bounds of lists, maps and texts, without which the apiserver rejects rules over them.

use schemars::{Schema, SchemaGenerator, json_schema};

use super::names::Role;

/// Kubernetes knows no unsigned formats.
pub fn count(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "format": "int32", "minimum": 0, "default": 0})
}

/// Labels.
pub fn label_map(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "maxProperties": 16, "additionalProperties": {"type": "string", "maxLength": 63}})
}

/// Annotations.
pub fn annotation_map(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "maxProperties": 16, "additionalProperties": {"type": "string", "maxLength": 1024}})
}

/// Values of a label.
pub fn label_values(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "maxItems": 64, "items": {"type": "string", "maxLength": 63}})
}

/// Names and globs of namespaces.
pub fn exclusions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "maxItems": 512, "items": {"type": "string", "minLength": 1, "maxLength": 63}})
}

/// Ranges of addresses.
pub fn cidrs(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "maxItems": 16, "items": {"type": "string", "maxLength": 49}})
}

/// Ports of DNS.
pub fn dns_ports(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "maxItems": 16, "items": {"type": "integer", "format": "int32", "minimum": 1, "maximum": 65535}})
}

/// Dns notes.
pub fn dns_notes(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "maxItems": 10, "items": {"type": "string", "maxLength": 512}})
}

/// Roles, all of them by default.
pub fn roles(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "maxItems": 3, "items": {"type": "string", "enum": Role::ALL.map(Role::as_str)},
        "default": Role::ALL.map(Role::as_str)})
}

/// Roles.
pub fn allowed_roles(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "maxItems": 3, "items": {"type": "string", "enum": Role::ALL.map(Role::as_str)}})
}
