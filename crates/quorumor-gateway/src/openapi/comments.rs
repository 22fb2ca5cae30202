//! The comments of the proto files, as one line each.

use prost_reflect::{
    EnumDescriptor, EnumValueDescriptor, FieldDescriptor, FileDescriptor, MessageDescriptor,
    MethodDescriptor, ServiceDescriptor,
};

pub(super) fn comment_of_service(of: &ServiceDescriptor) -> String {
    comment(&of.parent_file(), of.path())
}

pub(super) fn comment_of_method(of: &MethodDescriptor) -> String {
    comment(&of.parent_file(), of.path())
}

pub(super) fn comment_of_message(of: &MessageDescriptor) -> String {
    comment(&of.parent_file(), of.path())
}

pub(super) fn comment_of_field(of: &FieldDescriptor) -> String {
    comment(&of.parent_file(), of.path())
}

pub(super) fn comment_of_enum(of: &EnumDescriptor) -> String {
    comment(&of.parent_file(), of.path())
}

pub(super) fn comment_of_value(of: &EnumValueDescriptor) -> String {
    comment(&of.parent_file(), of.path())
}

fn comment(file: &FileDescriptor, path: &[i32]) -> String {
    let info = file.file_descriptor_proto().source_code_info.as_ref();
    let location = info.and_then(|info| info.location.iter().find(|place| place.path == path));
    let text = location.map_or("", |place| place.leading_comments());
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.join(" ").trim().to_owned()
}
