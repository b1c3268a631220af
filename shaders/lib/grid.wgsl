// Places in a grid that is laid out in two dimensions where one is not enough, and in vec4s of channels.

// The number of a workgroup.
fn workgroup_of(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return group.y * groups.x + group.x;
}

// The number of an invocation, in workgroups of 64.
fn invocation_of(group: vec3<u32>, groups: vec3<u32>, lane: u32) -> u32 {
    return workgroup_of(group, groups) * 64u + lane;
}

// The four channels of a vec4.
fn channels_of(c4: u32) -> vec4<u32> {
    return vec4<u32>(c4 * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
}
